"""Every public function traces, and its gradient too, where JAX lets no operand gain axes by itself."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from helpers import channel_weights, random, response_weights
from operator_oracles import VARIANTS, weights_of

import attgconv_jax
from attgconv_jax import OPERATORS, cyclic, dihedral
from attgconv_jax.nn import ATTENTIONS, GroupConv, SelectiveKernelGroupConv, SeparableGroupConv

P4M, C8 = dihedral(4), cyclic(8)
F = random(2, 5, 5, 8, 4)
W = random(3, 3, 8, 4, 3)
FACTORS = random(1, 1, 8, 4, 3), random(3, 3, 1, 1, 3)

CASES = {
    "group_conv": (lambda f, w: attgconv_jax.group_conv(f, w, P4M, haar=True), F, W),
    "group_conv at eighth turns": (lambda f, w: attgconv_jax.group_conv(f, w, C8), F, W),
    "filter_bank": (
        lambda w: attgconv_jax.filter_bank(w, C8, sampling=attgconv_jax.Sampling("cubic", disc_mask=True)),
        W,
    ),
    "grouped_group_conv": (lambda f, w: attgconv_jax.grouped_group_conv(f, w, P4M, 2), F, random(3, 3, 8, 2, 4)),
    "gseparable_group_conv": (
        lambda f, h, x: attgconv_jax.gseparable_group_conv(f, h, x, P4M),
        F,
        FACTORS[0],
        random(3, 3, 1, 4, 3),
    ),
    "separable_group_conv": (lambda f, h, x: attgconv_jax.separable_group_conv(f, h, x, P4M), F, *FACTORS),
    "max_pool": (lambda f: attgconv_jax.max_pool(f, P4M, window=3, stride=2, padding=1), F),
    "mean_pool": (lambda f: attgconv_jax.mean_pool(f, P4M, window=3, padding=1, stride=2), F),
    "low_pass": (lambda f: attgconv_jax.low_pass(f, P4M, stride=2), F),
    "antialiased max_pool": (lambda f: attgconv_jax.max_pool(f, P4M, window=3, stride=2, antialiased=True), F),
    "smooth_max_pool": (lambda f: attgconv_jax.smooth_max_pool(f, P4M, window=3, stride=2), F),
    "circular_mask": (attgconv_jax.circular_mask, F),
    "oversampled": (attgconv_jax.oversampled(jax.nn.relu), F),
    "project_max": (attgconv_jax.project_max, F),
    "project_mean": (attgconv_jax.project_mean, F),
    "maximum": (lambda f: attgconv_jax.maximum(f, -1), F),
    "act": (lambda f: attgconv_jax.act(f, C8, 1, "feature_map"), F),
    "input_attention": (
        lambda f, c, s: attgconv_jax.input_attention(f, c, s, P4M),
        F,
        channel_weights(4, 8),
        random(3, 3, 8, 2, 1),
    ),
    "input_co_attention": (lambda f, w: attgconv_jax.input_co_attention(f, w, P4M), F, random(1, 1, 8, 4, 1)),
    "response_attentive_group_conv": (
        lambda f, w, c, s: attgconv_jax.response_attentive_group_conv(f, w, c, s, P4M, padding=1),
        F,
        W,
        *response_weights(3, 4, 3, 8),
    ),
    **{
        f"operator {variant}": (
            lambda f, w, name=name, options=options: OPERATORS[name].apply(f, w, P4M, **options),
            random(2, 4, 4, 8, 4),
            weights_of(variant, 4, 8, 8),
        )
        for variant, (name, options) in VARIANTS.items()
    },
}
MODULES = {
    "GroupConv": lambda: GroupConv(4, 3, 3, P4M, use_bias=True, rngs=nnx.Rngs(0)),
    "SeparableGroupConv": lambda: SeparableGroupConv(4, 3, 3, P4M, use_bias=True, rngs=nnx.Rngs(0)),
    "SelectiveKernelGroupConv": lambda: SelectiveKernelGroupConv(4, 3, 3, P4M, rngs=nnx.Rngs(0)),
    **{name: lambda name=name: ATTENTIONS[name](4, P4M, rngs=nnx.Rngs(0)) for name in ATTENTIONS},
}


def is_differentiable(function, arrays):
    """Traces the function and its gradient by all arrays."""
    jax.eval_shape(jax.grad(lambda arrays: jnp.sum(function(*arrays) ** 2)), arrays)


@pytest.mark.parametrize("case", CASES)
def test_function_and_gradient_promote_no_ranks(case):
    function, *arrays = CASES[case]
    with jax.numpy_rank_promotion("raise"):
        is_differentiable(function, arrays)


@pytest.mark.parametrize("name", MODULES)
def test_module_promotes_no_ranks(name):
    with jax.numpy_rank_promotion("raise"):
        module = MODULES[name]()
        module.eval()  # running statistics cannot move in a trace that is not theirs
        jax.eval_shape(module, F.astype(jnp.float32))
