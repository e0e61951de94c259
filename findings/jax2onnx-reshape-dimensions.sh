#!/usr/bin/env bash
# jax2onnx 0.17.1 forgets the `dimensions` of `lax.reshape`: the file converts, and gives other numbers without a word.
#
# `lax.reshape(x, sizes, dimensions)` transposes before it reshapes. `jax.vmap` writes such a reshape wherever it moves
# the mapped axis of a convolution's images into their channels, so convolutions of groups of channels that are mapped
# are wrong, while `lax.conv_general_dilated(..., feature_group_count=2)` itself is right. A `lax.transpose` before a
# `lax.reshape` of its own converts.
#
# Seen: reshape wrong True, transposed first wrong False, mapped convolution wrong True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "jax==0.10.2" "jaxlib==0.10.2" "jax2onnx==0.17.1" onnxruntime
cat > "$folder/run.py" <<'PYTHON'
import jax
import jax2onnx
import numpy as np
import onnxruntime
from jax import lax

w = np.random.default_rng(0).standard_normal((1, 1, 2, 3, 2)).astype(np.float32)


def conv(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def mapped(x):
    return jax.vmap(conv, (-2, -1), -2)(x.reshape(2, 5, 4, 2, 2), w)


def wrong(function, shape):
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    model = jax2onnx.to_onnx(function, [shape])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    return not np.allclose(y, function(x), atol=1e-4)


print(
    f"reshape wrong {wrong(lambda x: lax.reshape(x, (6, 4), (2, 0, 1)), (2, 3, 4))},",
    f"transposed first wrong {wrong(lambda x: lax.reshape(lax.transpose(x, (2, 0, 1)), (6, 4)), (2, 3, 4))},",
    f"mapped convolution wrong {wrong(mapped, (2, 5, 4, 4))}",
)
PYTHON
output=$(JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/run.py" 2> /dev/null)
echo "$output"
[ "$output" = "reshape wrong True, transposed first wrong False, mapped convolution wrong True" ]
