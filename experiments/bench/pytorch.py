"""The rot-MNIST networks in plain PyTorch, for inference: filter banks are made and take in batch norms beforehand.

Feature maps are `[b, (h c), x, y]`, in memory with channels last, as PyTorch is fastest; responses are
`[b, h, c, m, x, y]` with `m = (g o)`. PyTorch is no dependency of this project: it is imported where a network is made.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from attgconv_jax import filter_bank
from attgconv_jax.attention.layers import group_bank
from attgconv_jax.attention.response_weights import (
    ResponseChannelWeights,
    response_channel_bank,
    response_spatial_bank,
)
from attgconv_jax.models import RotMNISTNet
from attgconv_jax.models.rot_mnist import LAYERS

CLASSES = 10


def torch_network(network: RotMNISTNet) -> Callable[[Any], Any]:
    """The network in evaluation mode, from a tensor of images `[b, x, y, 1, c]` to one of logits.

    Takes networks on finite groups with attention None, "input" or "response", default sampling.

    Raises:
      ValueError: PyTorch is not installed, or another attention.
    """
    torch = import_torch()
    attention = network.settings["attention"]
    if attention not in _LAYERS:
        raise ValueError(f"attention must be one of {', '.join(map(repr, _LAYERS))}, got {attention!r}")
    layers = []
    for i, layer in enumerate(network.convolutions):
        scale, bias = (1.0, np.zeros(CLASSES)) if i == len(LAYERS) else _affine(network.norms[i])
        layers.append(_LAYERS[attention](torch, layer, network.group, scale, bias))

    def run(images):
        with torch.inference_mode():
            # From [b, x, y, 1, c].
            f = images[:, :, :, 0].permute(0, 3, 1, 2)
            for i, layer in enumerate(layers):
                f = layer(f)
                if i < len(LAYERS):
                    f = torch.relu_(f)
                    f = torch.max_pool2d(f, 2) if LAYERS[i].pool else f
            return f.reshape(len(f), network.group.order, CLASSES).amax(1)

    return run


def import_torch() -> Any:
    """PyTorch; a `ValueError` where it is not installed."""
    try:
        import torch  # noqa: PLC0415 (no dependency)
    except ModuleNotFoundError as error:
        message = "PyTorch is not installed; the first lines of experiments/bench/inference.py say how"
        raise ValueError(message) from error
    return torch


def _affine(norm):
    """What a batch norm in evaluation mode multiplies by and adds, per channel."""
    scale = np.asarray(norm.scale[...]) / np.sqrt(np.asarray(norm.var[...]) + norm.epsilon)
    return scale, np.asarray(norm.bias[...]) - scale * np.asarray(norm.mean[...])


def _tensor(torch, array):
    return torch.from_numpy(np.array(array, np.float32))


def _convolution_filters(torch, w, group, scale, haar):
    """`[(g o), (h' c), k, k]`, with the Haar weight of feature maps and what scales each output channel."""
    bank = np.asarray(filter_bank(w, group)) * scale * (group.haar_weight if haar and w.shape[2] > 1 else 1)
    k, _, h_in, c_in, h, c_out = bank.shape
    return _tensor(torch, bank.reshape(k, k, h_in * c_in, h * c_out).transpose(3, 2, 0, 1))


def _plain(torch, layer, group, scale, bias):
    filters = _convolution_filters(torch, layer.w[...], group, scale, layer.haar)
    biases = _tensor(torch, np.tile(bias, group.order))
    return lambda f: torch.conv2d(f, filters, biases)


def _on_input(torch, layer, group, scale, bias):
    attention, conv = layer.attention, _plain(torch, layer.conv, group, scale, bias)
    (w1, w2), spatial = attention.weights.channel, attention.weights.spatial
    w1, w2 = (_linear(torch, w[...], group) for w in (w1, w2))
    filters = _convolution_filters(torch, spatial[...], group, 1, attention.options["haar"])
    dilation, h = attention.options["dilation"], spatial.shape[2]
    padding = dilation * (spatial.shape[0] // 2)

    def run(f):
        b, hc, x, y = f.shape
        statistics = torch.stack([f.mean((2, 3)), f.amax((2, 3))])
        alpha_c = torch.sigmoid((torch.relu_(statistics @ w1) @ w2).sum(0)).reshape(b, hc, 1, 1)
        attended = (alpha_c * f).reshape(b, h, hc // h, x, y)
        statistics = torch.stack([attended.mean(2), attended.amax(2)], 2).reshape(b, 2 * h, x, y)
        logits = torch.conv2d(statistics, filters, padding=padding, dilation=dilation)
        alpha_x = torch.sigmoid(logits.amax(1, keepdim=True) if h == 1 else logits)
        attended = attended * alpha_x[:, :, None]
        return conv(f - attended.reshape(f.shape))

    return run


def _linear(torch, w, group):
    """`[(h c), (g o)]` of a 1x1 group convolution."""
    bank = np.asarray(group_bank(w, group))
    o, c, order, h = bank.shape
    return _tensor(torch, bank.transpose(3, 1, 2, 0).reshape(h * c, order * o))


def _on_responses(torch, layer, group, scale, bias):
    bank = np.asarray(filter_bank(layer.w[...], group))
    k, _, h, c, order, o = bank.shape
    m = order * o
    filters = _tensor(torch, bank.reshape(k, k, h * c, m).transpose(2, 3, 0, 1).reshape(h * c * m, 1, k, k))
    channel = response_channel_bank(ResponseChannelWeights(layer.w1[...], layer.w2[...]), group)
    w1, w2 = (_tensor(torch, w) for w in channel)
    spatial = np.asarray(response_spatial_bank(layer.spatial[...], group))
    size = len(spatial)
    # [(h m), s, k, k]
    spatial = _tensor(torch, spatial.reshape(size, size, 2, h * m).transpose(3, 2, 0, 1))
    weight = 2 * np.pi / order if layer.haar and h > 1 else 1.0
    scale = _tensor(torch, np.broadcast_to(weight * np.tile(np.broadcast_to(scale, o), order), m)[:, None, None])
    bias = _tensor(torch, np.tile(bias, order)[:, None, None])

    def mlp(s):
        return torch.einsum("bhjm,hmcj->bhcm", torch.relu_(torch.einsum("bhcm,hmjc->bhjm", s, w1)), w2)

    def run(f):
        r = torch.conv2d(f, filters, groups=h * c)
        b, _, x, y = r.shape
        r = r.reshape(b, h, c, m, x, y)
        alpha_c = torch.sigmoid(mlp(r.mean((4, 5))) + mlp(r.amax((4, 5))))[..., None, None]
        attended = alpha_c * r
        statistics = torch.stack([attended.mean(2), attended.amax(2)], 3).reshape(b, h * m * 2, x, y)
        logits = torch.conv2d(statistics, spatial, padding=size // 2, groups=h * m)
        alpha_x = torch.sigmoid(logits).reshape(b, h, m, x, y)
        # The sum over h and c of (1 - alpha_X alpha_C) r.
        kept = r.sum((1, 2)) - (alpha_x * attended.sum(2)).sum(1)
        return scale * kept + bias

    return run


_LAYERS = {None: _plain, "input": _on_input, "response": _on_responses}


def largest_difference(ours: Any, theirs: Any) -> float:
    """Between logits of the two, in units of the largest."""
    ours, theirs = np.asarray(ours), theirs.numpy()
    return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(ours)))
