"""ResNets of timm: plain ones, and those with an attention of its `attn_layer` or with selective kernels."""

from attgconv_jax.interop.resnets import branch_slots, resnet_slots
from attgconv_jax.interop.slots import Slot, filters, norm, plain, pointwise, two_layers
from attgconv_jax.interop.source import Recipe, Source, resnet
from attgconv_jax.models import ResNet
from attgconv_jax.models.residual import ResidualBlock


def _slots(network: ResNet) -> dict[str, Slot]:
    of_branch = _selective_branch if network.settings["attention"] == "sk" else branch_slots
    return resnet_slots(network, _of_attention, of_branch)


def _of_attention(name, block):
    if block.attention is None:
        return {}
    kind, weights = block.attention.operator.name, block.attention.weights
    return {f"{name}.se.{part}": slot for part, slot in _ATTENTIONS[kind](block.attention, weights).items()}


def _squeeze_excitation(attention, weights):
    return two_layers("fc1", "fc2", weights, pointwise)


def _efficient_channel(attention, weights):
    return {"conv.weight": plain(weights, 1, *weights.shape[::-1])}


def _global_context(attention, weights):
    name = "mlp_scale" if attention.options.get("combination") == "scale" else "mlp_add"
    return {
        "conv_attn.weight": pointwise(weights.key),
        "conv_attn.bias": plain(weights.key_bias),
        f"{name}.norm.weight": plain(weights.scale),
        f"{name}.norm.bias": plain(weights.shift),
    } | two_layers(f"{name}.fc1", f"{name}.fc2", weights, pointwise)


def _convolutional_block(attention, weights):
    return {
        "channel.fc1.weight": pointwise(weights.channel.w1),
        "channel.fc2.weight": pointwise(weights.channel.w2),
        "spatial.conv.conv.weight": filters(weights.spatial),
    } | norm("spatial.conv.bn", attention.norms.spatial_norm)


_ATTENTIONS = {
    "se": _squeeze_excitation,
    "eca": _efficient_channel,
    "gc": _global_context,
    "cbam": _convolutional_block,
}


def _selective_branch(name: str, block: ResidualBlock) -> dict[str, Slot]:
    """Layers with a norm inside, and the selective kernels."""
    slots = {}
    for number, layer in enumerate(block.branch, 1):
        key = f"{name}.conv{number}"
        if hasattr(layer, "convs"):
            for path, (conv, conv_norm) in enumerate(zip(layer.convs, layer.conv_norms, strict=True)):
                slots[f"{key}.paths.{path}.conv.weight"] = filters(conv.w)
                slots |= norm(f"{key}.paths.{path}.bn", conv_norm)
            slots[f"{key}.attn.fc_reduce.weight"] = pointwise(layer.w1)
            slots |= norm(f"{key}.attn.bn", layer.norm)
            slots[f"{key}.attn.fc_select.weight"] = pointwise(layer.w2)
        else:
            slots[f"{key}.conv.weight"] = filters(layer.conv.w)
            slots |= norm(f"{key}.bn", layer.norm)
    return slots


# Of squeeze-and-excitation, and of selective kernels: hidden channels a stage, which timm rounds to eights or sixteens.
_SE = {18: [8, 8, 16, 32], 34: [8, 8, 16, 32], 50: [16, 32, 64, 128], 101: [16, 32, 64, 128]}
_SK = {18: [16, 16, 32, 64], 34: [16, 16, 32, 64], 50: [8, 8, 16, 32]}


def _networks() -> dict[str, Recipe]:
    networks = {}
    for depth in (18, 34, 50, 101):
        networks[f"resnet{depth}"] = resnet(depth)
        networks[f"seresnet{depth}"] = resnet(depth, "se", hidden_features=_SE[depth])
        # Of those that follow timm has no weights: its ResNet with block_args=dict(attn_layer="eca"), and so on.
        networks[f"ecaresnet{depth}"] = resnet(depth, "eca", min_kernel_size=3)
        networks[f"cbamresnet{depth}"] = resnet(depth, "cbam", use_bias=False, spatial_norm="batch")
        of_context = dict(reduction=8, epsilon=1e-6, use_key_bias=True)
        networks[f"gcresnet{depth}"] = resnet(depth, "gc", combination="scale", **of_context)
        networks[f"gcaresnet{depth}"] = resnet(depth, "gc", **of_context)
    for depth, hidden in _SK.items():
        of_kernels = dict(split_input=True, channel_groups=1, first_groups=1, hidden_features=hidden)
        networks[f"skresnet{depth}"] = resnet(depth, "sk", **of_kernels)
    return networks


SOURCE = Source(_networks(), _slots)
