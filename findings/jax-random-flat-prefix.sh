#!/usr/bin/env bash
# JAX 0.10.2: a random array of any shape holds the numbers of a flat one, a longer flat draw begins with those of a
# shorter one, and the first program that draws them compiles several times faster flat.
#
# With partitionable threefry keys (the default since JAX 0.5) a number depends on key and flat position alone, not on
# the shape; before, the halves of the counter were paired across the whole array. So `normal(key, shape)` equals
# `normal(key, (size,)).reshape(shape)`, bit for bit, and a slice of a longer draw will do: a network whose weights have
# fifty shapes needs fifty programs the usual way and a handful when draws are rounded up.
#
# Seen: equal True, prefix True, longer than flat True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "jax==0.10.2" "jaxlib==0.10.2"
cat > "$folder/run.py" <<'PYTHON'
import statistics
import time

import jax

key = jax.random.key(0)
shapes = [(7, 7, 4, 3 + i, 11) for i in range(8)]


def seconds(draw):
    started = time.perf_counter()
    draw().block_until_ready()
    return time.perf_counter() - started


jax.random.normal(key, (2,)).block_until_ready()
shaped, flat, equal, prefix = [], [], True, True
for shape in shapes:
    size = 7 * 7 * 4 * shape[3] * 11
    shaped.append(seconds(lambda: jax.random.normal(key, shape)))
    flat.append(seconds(lambda: jax.random.normal(key, (size,))))
    whole = jax.random.normal(key, (2**14,))
    numbers = jax.random.normal(key, shape)
    equal &= bool((numbers == jax.random.normal(key, (size,)).reshape(shape)).all())
    prefix &= bool((numbers.ravel()[: min(size, 2**14)] == whole[: min(size, 2**14)]).all())
print(f"equal {equal}, prefix {prefix}, longer than flat {statistics.median(shaped) > 1.5 * statistics.median(flat)}")
print(f"median seconds of a first draw: {statistics.median(shaped):.3f} shaped, {statistics.median(flat):.3f} flat")
PYTHON
output=$(JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/run.py" 2> /dev/null)
echo "$output"
[ "$(head -1 <<< "$output")" = "equal True, prefix True, longer than flat True" ]
