"""State dicts of the reference implementation of the attentive paper (`att_gconvs`), loaded into our networks."""

from collections.abc import Mapping

from flax import nnx
from jaxtyping import ArrayLike

from attgconv_jax.groups import cyclic, dihedral, trivial
from attgconv_jax.interop.loading import load
from attgconv_jax.interop.slots import Slot, filters, norm
from attgconv_jax.interop.source import Recipe, Source
from attgconv_jax.models import AllCNN, CIFARResNet, DenseNet, Network, RotMNISTNet
from attgconv_jax.nn.norm import RunningVariance

# The reference's names, and the network of ours that each describes.
REFERENCE_NETWORKS = {
    "z2cnn": (RotMNISTNet, trivial(), None),
    "p4cnn": (RotMNISTNet, cyclic(4), None),
    "f_att_p4cnn": (RotMNISTNet, cyclic(4), "input"),
    "RomHog_att_p4cnn": (RotMNISTNet, cyclic(4), "co"),
    "att_p4cnn": (RotMNISTNet, cyclic(4), "response"),
    "ch_att_p4cnn": (RotMNISTNet, cyclic(4), "response_channel"),
    "sp_att_p4cnn": (RotMNISTNet, cyclic(4), "response_spatial"),
    "z2_allcnnc": (AllCNN, trivial(), None),
    "p4_allcnnc": (AllCNN, cyclic(4), None),
    "p4m_allcnnc": (AllCNN, dihedral(4), None),
    "f_att_p4_allcnnc": (AllCNN, cyclic(4), "input"),
    "f_att_p4m_allcnnc": (AllCNN, dihedral(4), "input"),
    "z2_resnet44": (CIFARResNet, trivial(), None),
    "p4m_resnet44": (CIFARResNet, dihedral(4), None),
    "f_att_p4m_resnet44": (CIFARResNet, dihedral(4), "input"),
    "z2_densenet": (DenseNet, trivial(), None),
    "p4_densenet": (DenseNet, cyclic(4), None),
    "p4m_densenet": (DenseNet, dihedral(4), None),
    "f_att_p4_densenet": (DenseNet, cyclic(4), "input"),
    "f_att_p4m_densenet": (DenseNet, dihedral(4), "input"),
}


def load_reference(
    state: Mapping[str, ArrayLike], network: str, *, running_variance: RunningVariance = "biased"
) -> Network:
    """Makes the network of a state dict of the reference implementation.

    The same as `load_published` from "att_gconvs".

    Args:
      state: arrays by the reference's names, as `load_published` takes them.
      network: the reference's own name: one of `REFERENCE_NETWORKS`.
      running_variance: what batch norms keep where training goes on; "unbiased", as PyTorch does, makes of the same
        training the same network. See `attgconv_jax.nn.norm.BatchNorm`.

    Two names of the reference need a word. The released weights called `f_att_p4m_densenet` are a `p4m_densenet`, which
    the reference's script trains under that name. Its `f_att_p4m_resnet44` reflects its input on entry; ours does not,
    and as both are invariant the logits are the same.

    Raises:
      ValueError: an unknown network; arrays that `load_published` does not take.

    Source: the code of Romero et al. 2020.
    """
    return load(SOURCE, network, state, running_variance=running_variance, settings={})


def _slots(network: Network) -> dict[str, Slot]:
    """Where every array of the reference is in our network."""
    slots = {}
    for prefix, module in _LAYOUTS[type(network)](network):
        if isinstance(module, nnx.BatchNorm):
            slots |= norm(prefix, module)
            continue
        for path, variable in nnx.iter_graph(module):
            if isinstance(variable, nnx.Param):
                name, slot = _NAMES[path[-1]]
                slots[f"{prefix}.{name}"] = slot(variable)
    return slots


def _row(network):
    """The reference's names of convolutions and norms, and ours."""
    yield from ((f"c{i}", module) for i, module in enumerate(network.convolutions, 1))
    yield from ((f"bn{i}", module) for i, module in enumerate(network.norms, 1))


def _residual(network):
    yield from [("c1", network.lifting), ("bn_out", network.norm), ("c_out", network.classifier)]
    for size, stage in zip((32, 16, 8), network.stages, strict=True):
        for i, block in enumerate(stage):
            shortcut = [] if block.shortcut is None else [("fiber_map", block.shortcut)]
            for name, module in [*_row(block), *shortcut]:
                yield f"layers_nc{size}.{i}.{name}", module


def _dense(network):
    yield "c1", network.lifting
    yield from [("bn_out", network.classifier.norm), ("c_out", network.classifier.conv)]
    for i, layer in enumerate(network.layers):
        prefix = f"{('block', 'trans')[i % 2]}_layers.{i // 2}"
        yield from [(f"{prefix}.bn", layer.norm), (f"{prefix}.conv", layer.conv)]


_LAYOUTS = {RotMNISTNet: _row, AllCNN: _row, CIFARResNet: _residual, DenseNet: _dense}


def _channel_slot(variable):
    """Theirs is `[.., c_out, c_in, (h)]`, without `h` on images; ours `[.., c_out, c_in, h]`."""
    shape = variable.shape
    return Slot(variable, shape[:-1] if shape[-1] == 1 else shape)


# By the last part of our names: theirs, and what makes the slot. Co-attention's weights are a single filter.
_NAMES = {
    "w": ("weight", filters),
    "w1": ("channel_attention.weight_fc1", _channel_slot),
    "w2": ("channel_attention.weight_fc2", _channel_slot),
    "spatial": ("spatial_attention.weight", filters),
    "weights": ("spatial_attention.weight", filters),
}

SOURCE = Source(
    {
        name: Recipe(make, dict(group=group, attention=attention))
        for name, (make, group, attention) in REFERENCE_NETWORKS.items()
    },
    _slots,
)
