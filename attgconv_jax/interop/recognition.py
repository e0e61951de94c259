"""Which published network one of ours is."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from attgconv_jax.interop.loading import complete_settings
from attgconv_jax.interop.source import Recipe, Source
from attgconv_jax.models.arrays import listed
from attgconv_jax.models.structure import differences, structure
from attgconv_jax.nn.norm import set_running_variance
from attgconv_jax.nn.operator import OperatorAttention

# Settings in which a network may differ from the recipe and still have a published form: sizes, and how it computes.
_FREE = {"features", "in_features", "classes", "dtype", "dropout_rate", "exact", "implementation", "precision"}
# By these a network is near a recipe, or another one altogether.
_NEAR = ("depth", "group", "attention")
# Ends of names of what decides how a module computes, or initial values alone.
_IDLE = ("dtype", "precision", "implementation", "exact", "memory_budget", "_init")


def published_names(network: nnx.Module, source: Source, source_name: str) -> list[str]:
    """Names of the networks of a source that a network computes, of whatever sizes.

    Raises:
      ValueError: there is none; the message says in what the network differs from the nearest.
    """
    made_so = {name: recipe for name, recipe in source.networks.items() if recipe.make is type(network)}
    near = {name: recipe for name, recipe in made_so.items() if not _other_settings(network, recipe, _NEAR)}
    found = {name: _differences(network, recipe) for name, recipe in near.items()}
    if names := [name for name, words in found.items() if not words]:
        return names
    if found:
        nearest = min(found, key=lambda name: len(found[name]))
        raise ValueError(f"network differs from {source_name}'s {nearest} in {listed(found[nearest])}")
    settings = getattr(network, "settings", {})
    got = ", ".join(f"{name}={settings[name]!r}" for name in _NEAR if name in settings)
    got = type(network).__name__ + (f" with {got}" if got else "")
    raise ValueError(f"network must be one that {source_name} has: {listed([*source.networks])}; got {got}")


def _differences(network: nnx.Module, recipe: Recipe) -> list[str]:
    """In words, in what a network differs from the recipe's of the same sizes."""
    free = {name: network.settings[name] for name in network.settings if name in _FREE | recipe.free}
    if "group" in free:
        free["group"] = network.group
    if free.get("dtype") is not None:
        free["dtype"] = jnp.dtype(free["dtype"])
    settings = complete_settings(recipe, free)
    wanted = nnx.eval_shape(lambda: recipe.make(**settings, rngs=nnx.Rngs(0)))
    set_running_variance(wanted, network.running_variance)
    names = [name for name in wanted.settings if name != "attention_options" and not name.endswith(_IDLE)]
    words = [_instead(name, network, wanted) for name in names if network.settings[name] != wanted.settings[name]]
    if words:
        return words
    others = differences(_layers(network), _layers(wanted))
    if others and network.settings["attention_options"] != wanted.settings["attention_options"]:
        return [_instead("attention_options", network, wanted)]
    return others


def _other_settings(network, recipe, names):
    """Those of these settings that the recipe has otherwise."""
    given = {"group": network.group} if "group" in network.settings else {}
    given = network.settings | given
    fixed = recipe.settings.keys() - recipe.free
    return [name for name in names if name in fixed and given[name] != recipe.settings[name]]


def _instead(name, network, wanted):
    return f"{name}, {network.settings[name]} instead of {wanted.settings[name]}"


def _layers(network: nnx.Module) -> dict[str, Any]:
    """The structure of a network, and the options of its attention with those that have defaults."""
    options = {
        ".".join(map(str, path)): module
        for path, module in nnx.iter_graph(network)
        if isinstance(module, OperatorAttention)
    }
    places = tuple(f"{path}._options" for path in options)
    entries = {
        name: value
        for name, value in structure(network).items()
        if not name.endswith(_IDLE) and not name.startswith(("_settings", "preprocessing", *places))
    }
    for path, module in options.items():
        parameters = module.operator.options
        defaults = {name: parameters[name].default for name in module.operator.of_apply(dict.fromkeys(parameters))}
        entries[f"{path}.options"] = defaults | module.options
    return entries
