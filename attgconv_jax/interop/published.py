"""Published weights in networks of ours, and networks of ours as the original's state dicts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx
from jaxtyping import ArrayLike

from attgconv_jax.interop import pytorch_insight, reference, sepgconv, timm, torchvision
from attgconv_jax.interop.slots import check_complete, fill
from attgconv_jax.interop.source import Recipe, Source
from attgconv_jax.models.base import check_module
from attgconv_jax.models.skeleton import skeleton
from attgconv_jax.nn.norm import RunningVariance, set_running_variance

SOURCES: Mapping[str, Source] = {
    "att_gconvs": reference.SOURCE,
    "pytorch_insight": pytorch_insight.SOURCE,
    "sepgconv": sepgconv.SOURCE,
    "timm": timm.SOURCE,
    "torchvision": torchvision.SOURCE,
}
"""The sources of published weights by name; `SOURCES[name].networks` has the names of their networks."""

# Settings in which a network may differ from the recipe and still have a published form: sizes, and how it computes.
_FREE = {"features", "in_features", "classes", "dtype", "dropout_rate", "exact", "implementation", "precision"}


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
      state: arrays by the original's names, all of one floating type, as `read_state` gives them; counters
        (`num_batches_tracked`) are ignored. All may begin with `module.`, as in a state of PyTorch's DataParallel.
        float64 needs `jax_enable_x64`.
      source: one of `SOURCES`.
      network: the original's name of the network: one of `SOURCES[source].networks`.
      running_variance: what batch norms keep where training goes on; "unbiased", as PyTorch does, makes of the same
        training the same network. See `attgconv_jax.nn.norm.BatchNorm`.
      settings: arguments of our network's class that differ from the published ones, such as `classes`.

    Raises:
      ValueError: an unknown name; arrays that are missing, left over or misshapen, all in one line; arrays of several
        types, or that are not finite.
    """
    recipe = _recipe(source, network)
    made = nnx.merge(*skeleton(lambda: recipe.make(**dict(recipe.settings) | settings, rngs=nnx.Rngs(0))))
    fill(made, SOURCES[source].slots(made), state, network, SOURCES[source].constants(made))
    set_running_variance(made, running_variance)
    return made


def published_state(network: nnx.Module, source: str) -> dict[str, np.ndarray]:
    """The state dict that the original has of a network, by its names, without counters (`num_batches_tracked`).

    PyTorch's `load_state_dict` takes it; `write_state` writes it. Of a network that `load_published` made it is the
    state from which it was made, without a bit changed.

    Args:
      network: one that computes what a network of the source does, of whatever sizes.
      source: one of `SOURCES`.

    Raises:
      ValueError: the source has no such network.
    """
    check_module("network", network)
    _check_source(source)
    names = [name for name, recipe in SOURCES[source].networks.items() if _is_made_so(network, recipe)]
    if not names:
        known = f"must be one of a published network, {', '.join(SOURCES[source].networks)}"
        settings = {key: value for key, value in getattr(network, "settings", {}).items() if key not in _FREE}
        raise ValueError(f"network {known}, got {type(network).__name__} with {settings}")
    slots = SOURCES[source].slots(network)
    check_complete(network, slots, names[0])
    state = {name: slot.to_theirs() for name, slot in slots.items()}
    dtype = next(iter(state.values())).dtype
    return state | {name: value.astype(dtype) for name, value in SOURCES[source].constants(network).items()}


def _recipe(source: str, network: str) -> Recipe:
    _check_source(source)
    if network not in SOURCES[source].networks:
        raise ValueError(f"network must be one of {', '.join(SOURCES[source].networks)}, got {network!r}")
    return SOURCES[source].networks[network]


def _check_source(source):
    if source not in SOURCES:
        raise ValueError(f"source must be one of {', '.join(SOURCES)}, got {source!r}")


def _is_made_so(network, recipe):
    """Whether a network is of the recipe's class and of its settings, but for those that are free."""
    plain = {"depth", "attention"} & recipe.settings.keys()
    if type(network) is not recipe.make or any(network.settings[name] != recipe.settings[name] for name in plain):
        return False
    free = _FREE | recipe.free
    wanted = nnx.eval_shape(lambda: recipe.make(**recipe.settings, rngs=nnx.Rngs(0))).settings
    return all(network.settings.get(name) == value for name, value in wanted.items() if name not in free)
