#!/usr/bin/env bash
# JAX 0.10.2 on a CPU: `jnp.max` and `jnp.min` of a larger array drop a NaN, jitted or not. So does JAX 0.12.0.1.
#
# NumPy's maximum gives NaN where there is one, so does `jnp.maximum`, and so does `jnp.max` of 8x16 numbers. Of an
# array of five axes the result is the largest number and looks right. In `lax.reduce` with a comparison of one's own
# NaN stays. A network that pools by such a maximum gives finite logits for an image with a NaN pixel.
#
# Seen: jnp.max of 8x16 True, of five axes along the last False, in the middle False, jitted False; jnp.min False;
# jnp.maximum True; lax.reduce True; numpy True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "jax==0.10.2" "jaxlib==0.10.2"
cat > "$folder/run.py" <<'PYTHON'
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def keeps(result):
    return bool(np.isnan(result).any())


def larger(a, b):
    return jnp.where((a >= b) | jnp.isnan(a), a, b)


x = jnp.ones((2, 12, 16, 4, 3), jnp.float32).at[0, 0, 0, 0, 0].set(jnp.nan)
few = jnp.ones((8, 16), jnp.float32).at[0, 0].set(jnp.nan)
rows = [x[:, :, i] for i in range(x.shape[2])]
print(
    f"jnp.max of 8x16 {keeps(jnp.max(few, 1))}, of five axes along the last {keeps(jnp.max(x, 4))}, "
    f"in the middle {keeps(jnp.max(x, 2))}, jitted {keeps(jax.jit(lambda x: jnp.max(x, 2))(x))}; "
    f"jnp.min {keeps(jnp.min(x, 2))}; "
    f"jnp.maximum {keeps(functools.reduce(jnp.maximum, rows))}; "
    f"lax.reduce {keeps(lax.reduce(x, jnp.float32(-jnp.inf), larger, (2,)))}; numpy {keeps(np.max(np.asarray(x), 2))}"
)
PYTHON
output=$(JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/run.py" 2> /dev/null)
echo "$output"
expected="jnp.max of 8x16 True, of five axes along the last False, in the middle False, jitted False; jnp.min False; "
expected+="jnp.maximum True; lax.reduce True; numpy True"
[ "$output" = "$expected" ]
