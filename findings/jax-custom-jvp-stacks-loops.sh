#!/usr/bin/env bash
# JAX 0.10.2: the rule of a `custom_jvp` is taken apart by reverse mode, and nested loops in it hold what they did not hold.
#
# A jitted function loops over blocks, and in every block over positions; an iteration computes numbers that depend on its
# index alone, and keeps a running maximum. Called alone it holds one block of numbers. As the value of a `custom_jvp`,
# whose tangent does not use it, it holds the same under `jax.jvp`. Under `jax.vjp` the rule is evaluated partially, the
# inner loop is split although all its inputs are known, and those numbers are computed for all iterations first and
# stacked: 64 times the input, 16 times what was held, for a gradient that needs none of them. A `custom_vjp` of the same
# function does not.
#
# Seen: largest array alone 4000, custom_jvp under jvp 4000, under vjp 64000, custom_vjp under vjp 4000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "jax==0.10.2" "jaxlib==0.10.2"
cat > "$folder/run.py" <<'PYTHON'
import math

import jax
import jax.extend
import jax.numpy as jnp
from jax import lax

LENGTH = 1000


@jax.jit
def loops(x):
    def position(best, i):
        angles = 4 * i + jnp.arange(4)[:, None] * jnp.ones((1, LENGTH))
        return jnp.maximum(best, x * jnp.sum(jnp.cos(angles), axis=0)), ()

    def block(best, _):
        return lax.scan(position, best, jnp.arange(64))[0], ()

    return lax.scan(block, x, jnp.arange(3))[0]


@jax.custom_jvp
def forwards(x):
    return loops(x)


@forwards.defjvp
def _tangent(primals, tangents):
    return loops(*primals), 2 * tangents[0]


@jax.custom_vjp
def in_reverse(x):
    return loops(x)


in_reverse.defvjp(lambda x: (loops(x), None), lambda _, cotangent: (2 * cotangent,))


def largest(function):
    def sizes(jaxpr):
        for equation in jaxpr.eqns:
            yield from (math.prod(variable.aval.shape) for variable in equation.outvars)
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                yield from sizes(inner)

    return max(sizes(jax.make_jaxpr(function)(jnp.ones(LENGTH)).jaxpr))


alone, under_jvp = largest(forwards), largest(lambda x: jax.jvp(forwards, (x,), (x,)))
under_vjp, custom_vjp = (largest(lambda x: jax.vjp(f, x)[1](x)) for f in (forwards, in_reverse))
print(f"largest array alone {alone}, custom_jvp under jvp {under_jvp}, under vjp {under_vjp}, custom_vjp under vjp {custom_vjp}")
PYTHON
output=$("$folder/env/bin/python" "$folder/run.py")
echo "$output"
[ "$output" = "largest array alone 4000, custom_jvp under jvp 4000, under vjp 64000, custom_vjp under vjp 4000" ]
