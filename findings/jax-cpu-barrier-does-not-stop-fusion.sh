#!/usr/bin/env bash
# JAX 0.10.2 on a CPU: `jax.lax.optimization_barrier` does not keep an array from being computed anew for every use.
#
# A sum of eight shifted arrays of 64 x 256 numbers is broadcast over 1,024 positions and multiplied there. XLA for CPUs
# fuses the whole sum into the product, so that its multiplications are done for each of 16.8 million numbers and not for
# 16,384. A barrier around the sum, which one would write against that, changes nothing: it is gone before fusion. In a
# gradient this made one operation of a training step take 465 ms where 14 ms are enough. What helps is to end the sum in
# an operation that XLA does not fuse into others, such as a matrix product.
#
# Seen: multiplications at each position without a barrier 9, with a barrier 9, with the sum as a matrix product 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "jax==0.10.2" "jaxlib==0.10.2"
cat > "$folder/run.py" <<'PYTHON'
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

SHIFTS = range(8)


def shifted(small):
    return sum(jnp.roll(small, k, 1) * (k + 2) for k in SHIFTS)


def behind_a_barrier(small):
    return lax.optimization_barrier(shifted(small))


def as_a_product(small):
    matrix = sum(np.roll(np.eye(256, dtype=np.float32), k, 1) * (k + 2) for k in SHIFTS)
    return small @ matrix


def multiplications(total):
    """In the computation that makes the large array."""
    shapes = jax.ShapeDtypeStruct((64, 256), jnp.float32), jax.ShapeDtypeStruct((64, 1024, 256), jnp.float32)
    text = jax.jit(lambda small, large: large * total(small)[:, None]).lower(*shapes).compile().as_text()
    computations = re.findall(r"^%\S+ \(.*?^}", text, re.MULTILINE | re.DOTALL)
    (made,) = [c for c in computations if "f32[64,1024,256]" in c.split("ROOT")[1]]
    return made.count(" multiply(")


counts = [multiplications(total) for total in (shifted, behind_a_barrier, as_a_product)]
print("jax", jax.__version__)
print(
    f"multiplications at each position without a barrier {counts[0]}, with a barrier {counts[1]}, "
    f"with the sum as a matrix product {counts[2]}"
)
assert counts == [9, 9, 1]
PYTHON
"$folder/env/bin/python" "$folder/run.py"
