"""ResNets of PytorchInsight, the code of the papers on SGE and on selective kernels; plain ones are torchvision's."""

from attgconv_jax.interop.resnets import branch_slots, resnet_slots
from attgconv_jax.interop.slots import Slot, filters, matrix, norm, plain, pointwise, two_layers
from attgconv_jax.interop.source import Recipe, Source, resnet
from attgconv_jax.models import ResNet
from attgconv_jax.models.residual import ResidualBlock


def _slots(network: ResNet) -> dict[str, Slot]:
    of_branch = _selective_branch if network.settings["attention"] == "sk" else branch_slots
    return resnet_slots(network, _of_attention, of_branch)


def _of_attention(name, block):
    if block.attention is None:
        return {}
    return _ATTENTIONS[block.attention.operator.name](name, block.attention, block.attention.weights)


def _group_enhance(name, attention, weights):
    (groups,) = weights.weight.shape
    parts = {"weight": weights.weight, "bias": weights.bias}
    return {f"{name}.sge.{part}": plain(variable, 1, groups, 1, 1) for part, variable in parts.items()}


def _squeeze_excitation(name, attention, weights):
    return two_layers(f"{name}.se.fc.0", f"{name}.se.fc.2", weights, matrix)


def _convolutional_block(name, attention, weights):
    key = f"{name}.cbam"
    slots = two_layers(f"{key}.ChannelGate.mlp.1", f"{key}.ChannelGate.mlp.3", weights.channel, matrix)
    # Their maximum stands before their mean.
    slots[f"{key}.SpatialGate.spatial.conv.weight"] = filters(weights.spatial, reversed_axis=1)
    return slots | norm(f"{key}.SpatialGate.spatial.bn", attention.norms.spatial_norm)


def _bottleneck(name, attention, weights):
    # One at the end of a stage.
    key = name.partition(".")[0].replace("layer", "bam")
    channel, spatial = f"{key}.channel_att.gate_c.gate_c", f"{key}.spatial_att.gate_s.gate_s"
    slots = two_layers(f"{channel}_fc_0", f"{channel}_fc_final", weights.channel, matrix)
    parts = {"conv_reduce0": weights.reduce, "conv_final": weights.expand}
    parts |= {f"conv_di_{i}": variable for i, variable in enumerate(weights.dilated)}
    slots |= {f"{spatial}_{part}.weight": filters(variable) for part, variable in parts.items()}
    biases = zip(("conv_reduce0", "conv_di_0", "conv_di_1", "conv_final"), weights.biases, strict=True)
    slots |= {f"{spatial}_{part}.bias": plain(variable) for part, variable in biases}
    norms = f"{channel}_bn_1", f"{spatial}_bn_reduce0", f"{spatial}_bn_di_0", f"{spatial}_bn_di_1"
    for part, layer in zip(norms, attention.norms.hidden_norms, strict=True):
        slots |= norm(part, layer)
    return slots


def _global_context(name, attention, weights):
    key = f"{name}.gc"
    (hidden,) = weights.scale.shape
    return {
        f"{key}.conv_mask.weight": pointwise(weights.key),
        f"{key}.conv_mask.bias": plain(weights.key_bias),
        f"{key}.channel_add_conv.1.weight": plain(weights.scale, hidden, 1, 1),
        f"{key}.channel_add_conv.1.bias": plain(weights.shift, hidden, 1, 1),
    } | two_layers(f"{key}.channel_add_conv.0", f"{key}.channel_add_conv.3", weights, pointwise)


_ATTENTIONS = {
    "sge": _group_enhance,
    "se": _squeeze_excitation,
    "cbam": _convolutional_block,
    "bam": _bottleneck,
    "gc": _global_context,
}


def _selective_branch(name: str, block: ResidualBlock) -> dict[str, Slot]:
    """A bottleneck whose 3x3 convolution has another beside it."""
    first, middle, last = block.branch
    slots = {f"{name}.conv1.weight": filters(first.conv.w), **norm(f"{name}.bn1", first.norm)}
    slots |= {f"{name}.conv3.weight": filters(last.conv.w), **norm(f"{name}.bn3", last.norm)}
    for part, conv, conv_norm in zip(("2", "2g"), middle.convs, middle.conv_norms, strict=True):
        slots |= {f"{name}.conv{part}.weight": filters(conv.w), **norm(f"{name}.bn{part}", conv_norm)}
    slots |= {f"{name}.conv_fc1.weight": pointwise(middle.w1), f"{name}.conv_fc2.weight": pointwise(middle.w2)}
    return slots | norm(f"{name}.bn_fc1", middle.norm)


def _networks() -> dict[str, Recipe]:
    networks = {}
    for depth in (18, 34, 50, 101):
        networks[f"se_resnet{depth}"] = resnet(depth, "se")
        networks[f"sge_resnet{depth}"] = resnet(depth, "sge")
        networks[f"cbam_resnet{depth}"] = resnet(depth, "cbam", spatial_norm="batch")
        of_bottleneck = dict(hidden_norms="batch", channel_norm=None, spatial_norm=None, combine="product")
        networks[f"bam_resnet{depth}"] = resnet(depth, "bam", **of_bottleneck)
    for depth in (50, 101):
        networks[f"sk_resnet{depth}"] = resnet(depth, "sk", dilated=False)
        networks[f"gc_resnet{depth}"] = resnet(depth, "gc", use_key_bias=True)
    return networks


SOURCE = Source(_networks(), _slots)
