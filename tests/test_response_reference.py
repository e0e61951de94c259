"""Response attention against the reference: maps on given responses, layers, and all their gradients."""

import functools

import pytest
from compilation import optimised
from helpers import (
    LAYER_SETTINGS,
    check_reference_layer,
    eager,
    filter_to_ours,
    group_of,
    maps_to_ours,
    maps_to_reference,
)

from attgconv_jax import ResponseChannelWeights, response_attentive_group_conv
from attgconv_jax.attention import response_channel_bank, response_spatial_bank
from attgconv_jax.kernels.response import reference as formulas

MAP_FILES = [
    "se2_ChannelAttention",
    "se2_ChannelAttentionGG",
    "se2_SpatialAttention_k7",
    "se2_SpatialAttention_k3d2",
    "se2_SpatialAttentionGG_k7",
]
LAYER_FILES = [
    *[f"se2_AttConv{layer}_{settings}" for layer in ("RnG", "GG") for settings in LAYER_SETTINGS],
    "e2_AttConvRnG_chsp_s1p0_9",
    "e2_AttConvGG_sp_s1p0_9",
]


def channel_to_ours(w1, w2):
    """`[o, c_out, c_in, (h)] -> [o, c_out, c_in, h]`."""
    return ResponseChannelWeights(*(w if w.ndim == 4 else w[..., None] for w in (w1, w2)))


def responses_to_ours(array):
    """`[b, o, g, c, (h,) x, y] -> [b, x, y, h, c, (g, o)]`."""
    array = array if array.ndim == 7 else array[:, :, :, :, None]
    b, o, g, c, h, x, y = array.shape
    return array.transpose(0, 5, 6, 4, 3, 2, 1).reshape(b, x, y, h, c, g * o)


def responses_to_reference(array, o, image):
    """`[b, x, y, h, c, (g, o)] -> [b, o, g, c, h, x, y]`, without `h` on images."""
    array = array.reshape(*array.shape[:5], -1, o).transpose(0, 6, 5, 4, 3, 1, 2)
    return array[:, :, :, :, 0] if image else array


def check_map(data, file, compiled):
    group = group_of(file)

    def layer(r, weights):
        o, image = r.shape[1], r.ndim == 6
        r = responses_to_ours(r)
        if "Channel" in file:
            bank = response_channel_bank(channel_to_ours(weights["weight_fc1"], weights["weight_fc2"]), group)
            alpha = formulas.channel_attention(r, bank)
        else:
            bank = response_spatial_bank(filter_to_ours(weights["weight"]), group)
            alpha = formulas.spatial_attention(r, bank, data.config.get("dilation", 1))
        return responses_to_reference(alpha, o, image)

    check_reference_layer(data, layer, compiled)


@pytest.mark.parametrize("file", MAP_FILES)
def test_map_of_the_reference_is_reproduced_with_its_gradients(reference, file):
    check_map(reference(f"layers/{file}"), file, optimised)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["se2_ChannelAttentionGG", "se2_SpatialAttention_k3d2"])
def test_map_of_the_reference_is_reproduced_eagerly(reference, file):
    check_map(reference(f"layers/{file}"), file, eager)


def check_layer(data, file, compiled, implementation):
    group = group_of(file)
    settings = dict(stride=data.config["stride"], padding=data.config["padding"], implementation=implementation)
    apply = functools.partial(response_attentive_group_conv, group=group, haar=True, **settings)

    def layer(f, weights):
        networks = [weights.get(f"channel_attention.weight_fc{i}") for i in (1, 2)]
        channel = None if networks[0] is None else channel_to_ours(*networks)
        spatial = weights.get("spatial_attention.weight")
        spatial = None if spatial is None else filter_to_ours(spatial)
        return maps_to_reference(apply(maps_to_ours(f), filter_to_ours(weights["weight"]), channel, spatial))

    check_reference_layer(data, layer, compiled)


# The formulas themselves, which take long to compile, on a file of each kind; tiles are compared with them elsewhere.
@pytest.mark.parametrize(
    ("file", "implementation"),
    [
        *[(file, "xla") for file in LAYER_FILES],
        ("se2_AttConvRnG_ch_s1p0_9", "reference"),
        ("se2_AttConvGG_ch_s1p0_9", "reference"),
        ("e2_AttConvGG_sp_s1p0_9", "reference"),
        ("se2_AttConvGG_chsp_s2p1_9", "reference"),
    ],
)
@pytest.mark.default(
    "se2_AttConvGG_chsp_s2p1_9-xla", "e2_AttConvRnG_chsp_s1p0_9-xla", "se2_AttConvRnG_ch_s1p0_9-reference"
)
def test_layer_of_the_reference_is_reproduced_with_its_gradients(reference, file, implementation):
    check_layer(reference(f"layers/{file}"), file, optimised, implementation)


@pytest.mark.slow
def test_layer_of_the_reference_is_reproduced_eagerly(reference):
    file = "se2_AttConvGG_chsp_s2p1_9"
    check_layer(reference(f"layers/{file}"), file, eager, "xla")
