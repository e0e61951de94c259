#!/usr/bin/env bash
# Flax 0.12.8, JAX 0.10.2: nnx.tabulate fails on a module that calls .items() of an nnx.Dict.
#
# An `nnx.Dict` has the methods of a mapping, and a module that loops over `self.layers.items()` can be called, jitted and
# split. `nnx.tabulate` replaces methods of every submodule by compiled ones that record what passes through them, those
# of a Dict among them, and `.items()` under `tabulate` raises a RecursionError.
# Looking entries up by name, `getattr(self.layers, name)`, works under `tabulate` too. After the failure the classes keep
# the replaced methods: in the same process the other module then raises a KeyError, in a new one it is shown.
#
# Seen: RecursionError / table / RecursionError KeyError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "flax==0.12.8" "jax==0.10.2" "jaxlib==0.10.2"
cat > "$folder/run.py" <<'PYTHON'
import sys

import jax.numpy as jnp
from flax import nnx


class ByItems(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.Dict({"norm": nnx.BatchNorm(3, rngs=rngs)})

    def __call__(self, x):
        for _, layer in self.layers.items():
            x = layer(x)
        return x


class ByName(ByItems):
    def __call__(self, x):
        return getattr(self.layers, "norm")(x)


def outcome(kind):
    try:
        return "table" if "BatchNorm" in nnx.tabulate(kind(nnx.Rngs(0)), jnp.ones((2, 3))) else "nothing"
    except (AttributeError, KeyError, RecursionError) as error:
        return type(error).__name__


print(*(outcome({"items": ByItems, "name": ByName}[word]) for word in sys.argv[1:]))
PYTHON
run() { JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/run.py" "$@" 2> /dev/null; }
output="$(run items) / $(run name) / $(run items name)"
echo "$output"
[ "$output" = "RecursionError / table / RecursionError KeyError" ]
