"""Every public function traces, and its derivatives too, where JAX lets no operand gain axes by itself."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from helpers import random
from public_functions import CASES

from attgconv_jax import dihedral
from attgconv_jax.nn import ATTENTIONS, GroupConv, SelectiveKernelGroupConv, SeparableGroupConv

P4M = dihedral(4)
MODULES = {
    "GroupConv": lambda: GroupConv(4, 3, 3, P4M, use_bias=True, rngs=nnx.Rngs(0)),
    "SeparableGroupConv": lambda: SeparableGroupConv(4, 3, 3, P4M, use_bias=True, rngs=nnx.Rngs(0)),
    "SelectiveKernelGroupConv": lambda: SelectiveKernelGroupConv(4, 3, 3, P4M, rngs=nnx.Rngs(0)),
    **{name: lambda name=name: ATTENTIONS[name](4, P4M, rngs=nnx.Rngs(0)) for name in ATTENTIONS},
}


def is_differentiable(function, arrays):
    """Traces the function, its gradient by all arrays, and the gradient's tangent."""
    gradient = jax.grad(lambda arrays: jnp.sum(function(*arrays) ** 2))
    jax.eval_shape(lambda arrays: jax.jvp(gradient, (arrays,), (arrays,)), arrays)


@pytest.mark.parametrize("case", CASES)
def test_function_and_derivatives_promote_no_ranks(case):
    function, *arrays = CASES[case]
    with jax.numpy_rank_promotion("raise"):
        is_differentiable(function, arrays)


@pytest.mark.parametrize("name", MODULES)
def test_module_promotes_no_ranks(name):
    with jax.numpy_rank_promotion("raise"):
        module = MODULES[name]()
        module.eval()  # running statistics cannot move in a trace that is not theirs
        jax.eval_shape(module, random(2, 5, 5, 8, 4).astype(jnp.float32))
