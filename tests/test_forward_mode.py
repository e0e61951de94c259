"""Forward mode of every public function: tangents are slopes, and reverse mode is their transpose."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilation import optimised
from public_functions import CASES

import attgconv_jax
from attgconv_jax import OPERATORS, lie

STEP = 1e-5
# They make groups, bases and numbers; the last is deprecated.
NOT_OF_ARRAYS = {
    *("band_limited_error", "cyclic", "dihedral", "equivariance_error", "filter_basis", "trivial"),
    *("computing", "input_attention_map"),
}
# All kernels with derivatives of their own.
TWICE = (
    *("group_conv", "separable_group_conv", "gseparable_group_conv", "max_pool", "maximum"),
    *("response_attentive_group_conv", "operator cbam", "lie separable", "lie dseparable"),
)


def normal_like(tree, seed):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(generator.standard_normal(x.shape)), tree)


def inner(left, right):
    return float(sum(jax.tree.leaves(jax.tree.map(jnp.vdot, left, right))))


def norm(tree):
    return inner(tree, tree) ** 0.5


def test_every_public_function_is_here():
    public = {name for name in attgconv_jax.__all__ if inspect.isfunction(getattr(attgconv_jax, name))}
    operators = {operator.apply.__name__ for operator in OPERATORS.values()}
    words = {word for case in CASES for word in case.split()}
    assert public - NOT_OF_ARRAYS - operators <= words
    assert set(lie.KINDS) <= words
    assert {name.split("_")[0] for name in OPERATORS} <= words | {"response", "non"}


some = pytest.mark.default("group_conv", "lie separable")


@some
@pytest.mark.parametrize("case", CASES)
def test_tangents_are_slopes_and_gradients_their_transpose(case):
    function, *arrays = CASES[case]
    arrays = tuple(arrays)
    along = normal_like(arrays, 1)
    out, tangent = optimised(lambda arrays, along: jax.jvp(function, arrays, along))(arrays, along)
    assert norm(tangent) > 0

    # A formula of fourth order.
    at = optimised(lambda step: function(*jax.tree.map(lambda x, d: x + step * STEP * d, arrays, along)))
    near, far = (jax.tree.map(jnp.subtract, at(float(step)), at(-float(step))) for step in (1, 2))
    slopes = jax.tree.map(lambda near, far: (8 * near - far) / (12 * STEP), near, far)
    assert norm(jax.tree.map(jnp.subtract, tangent, slopes)) < 1e-8 * norm(slopes)

    cotangent = normal_like(out, 2)
    gradients = optimised(lambda arrays, d_out: jax.vjp(function, *arrays)[1](d_out))(arrays, cotangent)
    scale = max(norm(tangent) * norm(cotangent), norm(along) * norm(gradients))
    assert abs(inner(tangent, cotangent) - inner(along, gradients)) < 1e-12 * scale


@pytest.mark.slow
@pytest.mark.parametrize("case", TWICE)
def test_second_derivatives_are_symmetric(case):
    """Forwards over reverse, and mapped: as `jax.hessian` makes them."""
    function, *arrays = CASES[case]
    arrays = tuple(arrays)
    along = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(normal_like(arrays, seed) for seed in range(2)))

    def loss(arrays):
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(function(*arrays)))

    def product(along):
        return jax.jvp(jax.grad(loss), (arrays,), (along,))[1]

    products = optimised(jax.vmap(product))(along)
    first, second = (
        sum(jax.tree.leaves(jax.tree.map(lambda a, b, i=i: jnp.vdot(a[i], b[1 - i]), along, products)))
        for i in range(2)
    )
    scale = norm(along) * norm(products)
    assert scale > 0
    assert abs(float(first - second)) < 1e-12 * scale
