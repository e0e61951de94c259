#!/usr/bin/env bash
# Flax 0.12.8 with JAX 0.10.2 on a CPU: the bias of `nnx.Linear` and `nnx.Conv` with `dtype=bfloat16` gets a
# sixty-fourth of its gradient from 25,088 positions.
#
# The layer adds the bias in bfloat16, so its cotangent is a sum in bfloat16, one position after the other: it stops
# growing where a term is below half a step of eight bits, here at 1/128, and more positions add nothing.
# Kernels are right, since matrix products accumulate in float32; so are the scales and biases of Flax's norms, which
# compute in float32. The parameters themselves are float32: nothing warns of the sum. Adding
# the bias as `(y.astype(float32) + bias).astype(bfloat16)` mends it.
#
# Seen: Linear 0.0078125, Conv 0.0078125, where the gradient is 0.5; 128 positions 0.5; kernels within 1 % True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "jax==0.10.2" "jaxlib==0.10.2" "flax==0.12.8"
cat > "$folder/run.py" <<'PYTHON'
import jax
import jax.numpy as jnp
from flax import nnx

LAYERS = {"Linear": (nnx.Linear, ()), "Conv": (nnx.Conv, ((3, 3),))}


def gradients(name, dtype, batch=32):
    layer_type, arguments = LAYERS[name]
    layer = layer_type(4, 4, *arguments, dtype=dtype, rngs=nnx.Rngs(0))
    graph, parameters = nnx.split(layer, nnx.Param)
    f = jax.random.normal(jax.random.key(1), (batch, 28, 28, 4))
    f = f if batch > 1 else f[:, :16, :8]

    # All derivatives by outputs are equal: 2 / (positions times 4 channels), and a bias has the sum over positions.
    def loss(parameters):
        return jnp.mean(nnx.merge(graph, parameters)(f).astype(jnp.float32)) * 2

    return jax.jit(jax.grad(loss))(parameters)


right, within = {}, True
for name in LAYERS:
    exact, low = gradients(name, jnp.float32), gradients(name, jnp.bfloat16)
    assert jnp.allclose(exact["bias"][...], 0.5)
    right[name] = low["bias"][...][0]
    difference = jnp.linalg.norm(low["kernel"][...] - exact["kernel"][...])
    within &= bool(difference < 0.01 * jnp.linalg.norm(exact["kernel"][...]))
few = gradients("Linear", jnp.bfloat16, batch=1)["bias"][...][0]
seen = ", ".join(f"{name} {value}" for name, value in right.items())
print(f"{seen}, where the gradient is 0.5; 128 positions {few}; kernels within 1 % {within}")
PYTHON
output=$(JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/run.py" 2> /dev/null)
echo "$output"
[ "$output" = "Linear 0.0078125, Conv 0.0078125, where the gradient is 0.5; 128 positions 0.5; kernels within 1 % True" ]
