"""Every public function that arrays go through, with small arrays in float64."""

import functools

import jax
import jax.numpy as jnp
from helpers import channel_weights, random, response_weights
from operator_oracles import VARIANTS, weights_of

import attgconv_jax
from attgconv_jax import OPERATORS, cyclic, dihedral, lie
from attgconv_jax.lie.kernel_networks import NETWORKS

P4M, C8 = dihedral(4), cyclic(8)
F = random(2, 5, 5, 8, 4)
W = random(3, 3, 8, 4, 3)
FACTORS = random(1, 1, 8, 4, 3), random(3, 3, 1, 1, 3)

# Of 3 angles and 2 scales, 2 channels and 2 channels.
LIE_KERNELS = {
    None: [(3, 3, 1, 2, 6, 2)],
    "nonseparable": [(3, 3, 6, 2, 6, 2)],
    "gseparable": [(6, 2, 6, 2), (3, 3, 2, 6, 2)],
    "separable": [(6, 2, 6, 2), (3, 3, 6, 2)],
    "dseparable": [(2, 2), (3, 3, 6, 6, 2)],
    "dgseparable": [(2, 2), (6, 6, 2), (3, 3, 6, 2)],
    "separable+2d": [(3, 2, 3, 2), (2, 2, 2), (3, 3, 6, 2)],
    "gseparable+2d": [(3, 2, 3, 2), (2, 2, 2, 2), (3, 3, 2, 6, 2)],
}


def lie_conv(f, weights, network):
    group = lie.rotations(4)
    grid = group.grid()
    return lie.lie_conv(f, weights, group, grid, grid, 3, "separable", network=network)


# By name the function and the arrays, all of which it is differentiable by.
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
    "oversampled": (attgconv_jax.oversampled(jnp.tanh), F),
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
    "channel_attention": (lambda f, w: attgconv_jax.channel_attention(f, w, P4M), F, channel_weights(4, 8)),
    "spatial_attention": (lambda f, w: attgconv_jax.spatial_attention(f, w, P4M), F, random(3, 3, 8, 2, 1)),
    "attend": (lambda f, alpha: attgconv_jax.attend(f, alpha, "emphasise"), F, random(2, 5, 5, 1, 4)),
    "input_co_attention": (lambda f, w: attgconv_jax.input_co_attention(f, w, P4M), F, random(1, 1, 8, 4, 1)),
    "response_attentive_group_conv": (
        lambda f, w, c, s: attgconv_jax.response_attentive_group_conv(f, w, c, s, P4M, padding=1),
        random(1, 4, 4, 8, 2),
        random(3, 3, 8, 2, 1),
        *response_weights(3, 2, 1, 8),
    ),
    **{
        f"operator {variant}": (
            lambda f, w, name=name, options=options: OPERATORS[name].apply(f, w, P4M, **options),
            random(2, 4, 4, 8, 4),
            weights_of(variant, 4, 8, 8),
        )
        for variant, (name, options) in VARIANTS.items()
    },
    **{
        f"lie {kind or 'lifting'}": (
            lambda f, *weights, kind=kind: lie.apply_kernels(f, weights, kind or "nonseparable", padding="VALID"),
            random(2, 4, 4, 1 if kind is None else 6, 2),
            *(random(*shape, seed=i) for i, shape in enumerate(shapes)),
        )
        for kind, shapes in LIE_KERNELS.items()
    },
    "lie depthwise_conv": (lie.depthwise_conv, random(2, 4, 4, 6, 2), random(3, 3, 6, 2)),
    "lie max_pool": (lambda f: lie.max_pool(f, lie.rotations(4)), random(2, 4, 4, 4, 3)),
    "b_spline": (lambda w: lie.b_spline(random(9, 2), w), random(4, 5, 3)),
    **{
        f"lie_conv of {name}": (
            functools.partial(lie_conv, network=NETWORKS[name].function),
            random(2, 5, 5, 4, 2),
            lie.lie_weights(jax.random.key(0), 2, 3, 3, lie.rotations(4), "separable", network=name, dtype=jnp.float64),
        )
        for name in ("siren", "multiplicative")
    },
}
