#!/usr/bin/env bash
# Flax 0.12.8: after `nnx.tabulate` of a module whose call raised, other modules of its classes cannot be called.
#
# While it runs, `nnx.tabulate` puts wrappers in place of the public methods of every class in the module, and takes them
# out again afterwards; but not where the call raised. The wrappers look for an attribute that only the tabulated
# instances have. So one wrong shape, caught and forgotten, breaks every layer of the same classes for the rest of the
# process, with an error that names neither. Random streams are among these classes, which all modules draw from: not even
# an unrelated layer can be made any more. In a test suite or a notebook one failure is followed by hundreds.
#
# Seen: the wrong shape raised TypeError
# Seen: a right call of another instance raised AttributeError, "'Linear' object has no attribute '_nnx_tabulate_id'"
# Seen: making an unrelated layer raised AttributeError, "'RngStream' object has no attribute '_nnx_tabulate_id'"
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "flax==0.12.8" "jax==0.10.2" "jaxlib==0.10.2"
cat > "$folder/run.py" <<'PYTHON'
import jax.numpy as jnp
from flax import nnx


class Network(nnx.Module):
    def __init__(self, rngs):
        self.linear, self.rngs = nnx.Linear(3, 4, rngs=rngs), rngs

    def __call__(self, x):
        return self.linear(x)


def outcome(what, function):
    try:
        function()
    except Exception as error:
        message = f", \"{str(error).splitlines()[0]}\"" if isinstance(error, AttributeError) else ""
        print(f"{what} raised {type(error).__name__}{message}")
    else:
        print(f"{what} is fine")


other = nnx.Linear(3, 4, rngs=nnx.Rngs(1))
outcome("the wrong shape", lambda: nnx.tabulate(Network(nnx.Rngs(0)), jnp.ones((2, 5))))
outcome("a right call of another instance", lambda: other(jnp.ones((2, 3))))
outcome("making an unrelated layer", lambda: nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(2)))
PYTHON
output=$(JAX_PLATFORMS=cpu "$folder/env/bin/python" "$folder/run.py" 2> /dev/null)
echo "$output"
[ "$output" = "the wrong shape raised TypeError
a right call of another instance raised AttributeError, \"'Linear' object has no attribute '_nnx_tabulate_id'\"
making an unrelated layer raised AttributeError, \"'RngStream' object has no attribute '_nnx_tabulate_id'\"" ]
