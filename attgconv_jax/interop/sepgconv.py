"""Networks of the separable paper's code (`ck_g_cnn`): its residual network and its All-CNN."""

import numpy as np

from attgconv_jax.interop.slots import Slot, linear, norm, plain
from attgconv_jax.interop.source import Recipe, Source
from attgconv_jax.lie import rotations
from attgconv_jax.lie.kinds import KINDS, LIFTING
from attgconv_jax.models import LieAllCNN, LieResNet
from attgconv_jax.models.lie_all_cnn import LAYERS
from attgconv_jax.models.lie_resnet import SIZE
from attgconv_jax.nn import LieConv

# Their kernel networks by the number of ours.
_KERNELS = {1: ("cknet",), 2: ("cknet_H", "cknet_Rn"), 3: ("cknet_SO2", "cknet_Rplus", "cknet_Rn")}


def _slots(network: LieResNet | LieAllCNN) -> dict[str, Slot]:
    slots = {}
    for name, layer in _layers(network).items():
        slots |= _convolution(name, layer) if isinstance(layer, LieConv) else norm(name, layer)
    if isinstance(network, LieResNet):
        slots |= linear("final_linear.0", network.head) | linear("final_linear.4", network.logits)
    return slots


def _layers(network):
    """Convolutions and norms by their names in the original, where relus, dropout and pooling are layers too.

    The residual network is that without dropout between its layers, as in the original's commands.
    """
    if isinstance(network, LieAllCNN):
        layers = {"lifting": network.lifting, "layers.1.bn": network.lifting_norm}
        count = 3
        for layer, conv, conv_norm in zip(LAYERS, network.convolutions, network.norms, strict=True):
            layers[f"layers.{count}"] = conv.conv
            layers[f"layers.{count + 1 + layer.pool}.bn"] = conv_norm
            count += 3 + layer.pool + layer.dropout
        return layers | {"final_linear": network.classifier.conv}
    layers = {"lifting": network.lifting, "layers.0.bn": network.lifting_norm}
    count = 2
    for block, block_norm in zip(network.blocks, network.block_norms, strict=True):
        name = f"layers.{count}"
        layers |= {f"{name}.gconv_1": block.first.conv, f"{name}.normalisation_1.bn": block.first_norm}
        layers |= {f"{name}.gconv_2": block.second.conv, f"{name}.normalisation_2.bn": block.second_norm}
        if block.shortcut is not None:
            layers[f"{name}.skip_align"] = block.shortcut
        layers[f"layers.{count + 1}.bn"] = block_norm
        count += 4
    layers |= {f"layers.{count}": network.last.conv, f"layers.{count + 1}.bn": network.last_norm}
    return layers | {"final_linear.1": network.head_norm}


def _convolution(name, conv):
    factors, slots = (LIFTING if conv.lifting else KINDS[conv.kind]).factors, {}
    for key, factor, weights in zip(_KERNELS[len(factors)], factors, conv.weights.factors, strict=True):
        network = f"{name}.kernel.{key}"
        for i, layer in enumerate(weights.hidden):
            slots |= _linear(f"{network}.net.net.{i}.linear", layer, 1)
        slots |= _linear(f"{network}.final_linear", weights.out, conv.in_features if factor.pairs else 1)
    if conv.weights.projection is not None:
        slots[f"{name}.depthwise_projection.weight"] = plain(conv.weights.projection)
    return slots


def _linear(name, layer, c_in):
    """Values `(c_out, c_in)` of the original's layer are `(c_in, c_out)` in ours."""
    count, values = layer.w.shape
    c_out = values // c_in
    return {
        f"{name}.weight": Slot(layer.w, (values, count), (2, 1, 0), split=(count, c_in, c_out)),
        f"{name}.bias": Slot(layer.b, (values,), (1, 0), split=(c_in, c_out)),
    }


def _constants(network: LieResNet | LieAllCNN) -> dict[str, np.ndarray]:
    """The identity of the group, which every convolution of the original keeps twice and every block once."""
    parts = {"SO2": 0.0} if network.group.angles is not None else {}
    parts |= {"Rplus": 1.0} if network.group.scales is not None else {}
    identities = {"group.identity": np.array([*parts.values()])}
    if len(parts) == 2:
        identities |= {f"group.{part}.identity": np.array([value]) for part, value in parts.items()}
    owners = [name for name, layer in _layers(network).items() if isinstance(layer, LieConv)]
    owners += [f"{name}.kernel" for name in owners]
    owners += {name.rpartition(".")[0] for name in owners if name.endswith(".gconv_1")}
    return {f"{owner}.{name}": value for owner in owners for name, value in identities.items()}


def _recipe(make, **derived) -> Recipe:
    settings = dict(group=rotations(8), kind="separable", coordinates="paper")
    sizes = {"group", "kind", "kernel_size", "head_features", "network_options"}
    return Recipe(make, settings, free=sizes | {"random_grids", "lifting_dropout_rate"}, **derived)


def _last_kernel_size(settings):
    """What the filter leaves of the feature map, from 3 to 11 pixels; the weights do not show it."""
    features, kernel_size = settings["features"], settings["kernel_size"]
    size = min(max(SIZE // 2 ** (len(features) - 1) - kernel_size, 3), 11)
    if size % 2 == 0:
        raise ValueError(
            f"kernel_size must not be {kernel_size} with {len(features)} features: the last filter of the original "
            f"then has {size} pixels, and ours cannot have an even number"
        )
    return {"last_kernel_size": size}


SOURCE = Source(
    {"ckgresnet": _recipe(LieResNet, derived=_last_kernel_size), "ckgallcnnc": _recipe(LieAllCNN)}, _slots, _constants
)
