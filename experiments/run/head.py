"""The head of a network: the arrays whose shapes depend on the number of classes. All others are its body."""

from typing import Any

import jax
from flax import nnx

from attgconv_jax.models.skeleton import ARRAYS
from experiments.run.model_configuration import ModelConfig


def head_of(config: ModelConfig, classes: int, in_features: int = 1) -> frozenset[str]:
    """The names of a network's parameters and statistics that have other shapes with one class more.

    Of the registry's networks that is the last convolution, with what attention it has on its responses.
    """
    shapes, others = (_shapes(config, count, in_features) for count in (classes, classes + 1))
    return frozenset(name for name, shape in shapes.items() if others.get(name) != shape)


def named(state: nnx.State) -> dict[str, Any]:
    """The variables of a state by dotted name."""
    return {".".join(map(str, path)): variable for path, variable in nnx.to_flat_state(state)}


def train_head(network: nnx.Module, head: frozenset[str]) -> None:
    """Sets the modules with the head's arrays to training mode, all others to evaluation mode."""
    network.eval()
    holders = {name.rpartition(".")[0] for name in head}
    for path, module in list(nnx.iter_modules(network)):
        if ".".join(map(str, path)) in holders:
            module.train()


def split_head(params: nnx.State, head: frozenset[str]) -> tuple[nnx.State, nnx.State]:
    """The parameters of the head, and those of the body; `nnx.merge_state` puts them together."""
    return nnx.split_state(params, lambda path, _: ".".join(map(str, path)) in head, ...)


def _shapes(config, classes, in_features):
    network = nnx.eval_shape(lambda: config.build(in_features, classes, nnx.Rngs(jax.random.key(0))))
    return {name: variable.get_value().shape for name, variable in named(nnx.state(network, ARRAYS)).items()}
