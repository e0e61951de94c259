"""How the network of a published state dict is made."""

import inspect
from collections.abc import Mapping
from typing import Any

from flax import nnx
from jaxtyping import ArrayLike

from attgconv_jax.interop.slots import fill
from attgconv_jax.interop.source import Recipe, Source
from attgconv_jax.models.skeleton import skeleton
from attgconv_jax.nn.norm import RunningVariance, set_running_variance

# Arguments of a network that are none of its settings: the first is what the arrays are.
_NO_SETTINGS = {"param_dtype", "rngs"}


def load(
    source: Source,
    network: str,
    state: Mapping[str, ArrayLike],
    *,
    running_variance: RunningVariance,
    settings: Mapping[str, Any],
) -> nnx.Module:
    """`load_published` of a source at hand."""
    if network not in source.networks:
        raise ValueError(f"network must be one of {', '.join(source.networks)}, got {network!r}")
    recipe = source.networks[network]
    settings = complete_settings(recipe, settings)
    made = nnx.merge(*skeleton(lambda: recipe.make(**settings, rngs=nnx.Rngs(0))))
    fill(made, source.slots(made), state, network, source.constants(made))
    set_running_variance(made, running_variance)
    return made


def complete_settings(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the recipe's network is made with where these settings are given.

    Raises:
      ValueError: the network has no such setting, or the published code no network of these settings.
    """
    known = [name for name in inspect.signature(recipe.make).parameters if name not in _NO_SETTINGS]
    for name in settings:
        if name not in known:
            raise ValueError(f"settings must be among {', '.join(known)}, got {name}")
    complete = dict(recipe.settings) | settings
    if recipe.derived is None:
        return complete
    made = nnx.eval_shape(lambda: recipe.make(**complete, rngs=nnx.Rngs(0)))
    return dict(recipe.derived(made.settings)) | complete
