"""Published weights in networks of ours, and networks of ours as the original's state dicts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import ArrayLike

from attgconv_jax.interop import pytorch_insight, reference, sepgconv, timm, torchvision
from attgconv_jax.interop.loading import load
from attgconv_jax.interop.recognition import published_names
from attgconv_jax.interop.slots import check_complete
from attgconv_jax.interop.source import Source
from attgconv_jax.models.base import check_module
from attgconv_jax.nn.norm import RunningVariance

SOURCES: Mapping[str, Source] = {
    "att_gconvs": reference.SOURCE,
    "pytorch_insight": pytorch_insight.SOURCE,
    "sepgconv": sepgconv.SOURCE,
    "timm": timm.SOURCE,
    "torchvision": torchvision.SOURCE,
}
"""The sources of published weights by name; `SOURCES[name].networks` has the names of their networks."""


def load_published(
    state: Mapping[str, ArrayLike],
    source: str,
    network: str,
    *,
    running_variance: RunningVariance = "biased",
    **settings: Any,
) -> nnx.Module:
    """Makes the network of a published state dict; it computes what the original does.

    The network is in evaluation mode and of the dtype of the arrays. `published_state` is the way back.

    >>> from attgconv_jax.interop import load_published, read_state
    >>> network = load_published(read_state("resnet50.pth"), "torchvision", "resnet50")  # doctest: +SKIP

    Args:
      state: arrays by the original's names, all of one floating type, as `read_state` gives them, but that running
        statistics beside bfloat16 and float16 may be float32; counters (`num_batches_tracked`) are ignored. All may
        begin with `module.`, as in a state of PyTorch's DataParallel. float64 needs `jax_enable_x64`.
      source: one of `SOURCES`.
      network: the original's name of the network: one of `SOURCES[source].networks`.
      running_variance: what batch norms keep where training goes on; "unbiased", as PyTorch does, makes of the same
        training the same network. See `attgconv_jax.nn.norm.BatchNorm`.
      settings: arguments of our network's class that differ from the published ones, such as `classes`. Where weights
        do not show a setting, one that is wrong goes unnoticed: of "sepgconv" `kernel_size`, the group's numbers of
        elements and `max_scale`, and the frequencies in `network_options`.

    Raises:
      ValueError: an unknown name or setting; settings that the published code cannot have; arrays that are missing,
        left over or misshapen, all in one line; arrays of several types, or that are not finite.
    """
    return load(_source(source), network, state, running_variance=running_variance, settings=settings)


def published_state(network: nnx.Module, source: str, network_name: str | None = None) -> dict[str, np.ndarray]:
    """The state dict that the original has of a network, by its names, without counters (`num_batches_tracked`).

    PyTorch's `load_state_dict` takes it; `write_state` writes it. Of a network that `load_published` made it is the
    state from which it was made, without a bit changed, but that running statistics beside bfloat16 and float16, which
    our batch norms keep as float32, stay float32; PyTorch casts them where it loads them.

    Args:
      network: one that computes what a network of the source does, of whatever sizes.
      source: one of `SOURCES`.
      network_name: which of the source's networks it should be; None: any.

    Raises:
      ValueError: the source has no such network, and the message says in what it differs from the nearest; or it is
        another than `network_name`.
    """
    check_module("network", network)
    known = _source(source)
    name, *others = published_names(network, known, source)
    if network_name not in (None, name, *others):
        raise ValueError(f"network_name must be {' or '.join([name, *others])}, which it is, got {network_name!r}")
    slots = known.slots(network)
    check_complete(network, slots, name)
    state = {name: slot.to_theirs() for name, slot in slots.items()}
    dtype = next(iter(state.values())).dtype
    return state | {name: value.astype(dtype) for name, value in known.constants(network).items()}


def _source(name: str) -> Source:
    if name not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}, got {name!r}")
    return SOURCES[name]
