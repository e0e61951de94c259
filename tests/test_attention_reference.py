"""Input attention against the reference: maps, attentive layers, and all their gradients."""

import pytest
from compilation import optimised
from helpers import (
    LAYER_SETTINGS,
    channel_to_ours,
    check_reference_layer,
    eager,
    filter_to_ours,
    group_of,
    maps_to_ours,
    maps_to_reference,
)

from attgconv_jax import (
    channel_attention,
    co_attention,
    group_conv,
    input_attention,
    input_co_attention,
    spatial_attention,
)

ATTENTION_FILES = [
    "se2_fChannelAttention",
    "se2_fChannelAttentionGG",
    "se2_fSpatialAttention_k7",
    "se2_fSpatialAttention_k7d4",
    "se2_fSpatialAttentionGG_k7",
    "se2_fSpatialAttentionGG_k5d2",
    "se2_RomHog_fSpatialAttention",
    "se2_RomHog_fSpatialAttentionGG",
]
ATTENTIVE_FILES = [
    *[f"se2_fAttConv{layer}_{settings}" for layer in ("RnG", "GG") for settings in LAYER_SETTINGS],
    "se2_fAttConvGG_RomHog",
    "e2_fAttConvRnG_chsp_s1p0_9",
    "e2_fAttConvGG_chsp_s1p0_9",
]


def check_attention_map(data, file, run):
    group = group_of(file)

    def layer(f, weights):
        f = maps_to_ours(f)
        if "fChannel" in file:
            alpha = channel_attention(f, channel_to_ours(weights["weight_fc1"], weights["weight_fc2"]), group)
        elif "RomHog" in file:
            alpha = co_attention(f, filter_to_ours(weights["weight"]), group, haar=True)
        else:
            dilation = data.config.get("dilation", 1)
            alpha = spatial_attention(f, filter_to_ours(weights["weight"]), group, dilation=dilation, haar=True)
        return maps_to_reference(alpha, image=f.shape[-2] == 1)

    check_reference_layer(data, layer, run)


@pytest.mark.parametrize("file", ATTENTION_FILES)
def test_attention_map_of_the_reference_is_reproduced_with_its_gradients(reference, file):
    check_attention_map(reference(f"layers/{file}"), file, optimised)


@pytest.mark.slow
@pytest.mark.parametrize("file", ["se2_fChannelAttentionGG", "se2_fSpatialAttentionGG_k5d2"])
def test_attention_map_of_the_reference_is_reproduced_eagerly(reference, file):
    check_attention_map(reference(f"layers/{file}"), file, eager)


def check_attentive_layer(data, file, run):
    group = group_of(file)

    def layer(f, weights):
        f = maps_to_ours(f)
        spatial = weights.get("spatial_attention.weight")
        spatial = None if spatial is None else filter_to_ours(spatial)
        if "RomHog" in file:
            attended = input_co_attention(f, spatial, group, haar=True)
        else:
            fc1 = weights.get("channel_attention.weight_fc1")
            channel = None if fc1 is None else channel_to_ours(fc1, weights["channel_attention.weight_fc2"])
            attended = input_attention(f, channel, spatial, group, haar=True)
        settings = dict(stride=data.config.get("stride", 1), padding=data.config.get("padding", 0))
        return maps_to_reference(group_conv(attended, filter_to_ours(weights["weight"]), group, haar=True, **settings))

    check_reference_layer(data, layer, run)


@pytest.mark.parametrize("file", ATTENTIVE_FILES)
@pytest.mark.default(
    "e2_fAttConvGG_chsp_s1p0_9", "se2_fAttConvGG_chsp_s2p1_9", "se2_fAttConvRnG_chsp_s1p1_8", "se2_fAttConvGG_RomHog"
)
def test_attentive_layer_of_the_reference_is_reproduced_with_its_gradients(reference, file):
    check_attentive_layer(reference(f"layers/{file}"), file, optimised)


@pytest.mark.slow
def test_attentive_layer_of_the_reference_is_reproduced_eagerly(reference):
    file = "se2_fAttConvGG_chsp_s2p1_9"
    check_attentive_layer(reference(f"layers/{file}"), file, eager)
