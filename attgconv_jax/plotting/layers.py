"""The layers of a network as pictures name them: by number those of the registry's, by path those of any other."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attention import OPERATORS
from attgconv_jax.equivariance import Kind
from attgconv_jax.groups import Group, cyclic, trivial
from attgconv_jax.models.base import NETWORKS, Network, check_module
from attgconv_jax.plotting.found import FoundLayers, combination_of


class RegisteredLayers:
    """The layers of a network of the registry, which says itself what leaves them."""

    def __init__(self, network: nnx.Module):
        self._network = network

    @property
    def group(self) -> Group | None:
        """The group as which the network's acts on feature maps; None where it acts as no finite one."""
        group = self._network.group
        if isinstance(group, Group):
            return group
        # With the paper's coordinates filters turn clockwise as the angle grows.
        turns = group.scales is None and self._network.settings["coordinates"] != "paper"
        return cyclic(group.angles) if turns else None

    def check_group(self, group: Group | None, what: str) -> Group:
        """The group as which elements act on feature maps: the one given, None: the network's."""
        known = self.group
        given = known if group is None else group
        if given is None or known not in (given, trivial()):
            acts = f"{self._network.group} acts there as no finite group"
            needed = f"group must be {known}, got {given}" if known else acts
            raise ValueError(f"{what} needs to know how the group acts on the network's feature maps: {needed}")
        return given

    def attending_layer(self, layer: int | str | None, images: Float[Array, "*batch x y 1 c"] | None = None) -> int:
        """The layer, or the first that has attention; a `ValueError` where it, or all of the network, has none."""
        attending = self._network.attending_layers
        if not attending:
            raise ValueError("the network has no attention; make it with attention=...")
        if layer is None:
            return attending[0]
        if type(layer) is not int or layer not in attending:
            known = ", ".join(map(str, attending))
            raise ValueError(f"layer must be one of those with attention, {known}; got {layer!r}")
        return layer

    def map_shapes(self, images: Float[Array, "*batch x y 1 c"]) -> dict[int, Any]:
        """Shapes of the attention maps by layer."""
        maps = nnx.eval_shape(lambda network, images: network.attention_maps(images), self._network, images)
        return {i: shape for i, shape in enumerate(maps) if shape is not None}

    def maps(self, images: Float[Array, "*batch x y 1 c"], layer: int, finish: Callable | None = None) -> Any:
        """`finish` of a layer's attention maps, in one compiled call."""
        return _attention_map(self._network, images, layer, finish)

    def title(self, layer: int) -> str:
        """The layer in the title of a picture."""
        return f"layer {layer + 1}"

    def attention(self, layer: int) -> str:
        """What the layer's attention is called."""
        return self._network.settings["attention"]

    def combination(self, layer: int) -> str:
        """How the layer combines its maps with what it attends to, as `Operator` has it."""
        if isinstance(self._network, Network):
            # Options of settings may differ by stage: the attention of the layer knows its own.
            module = getattr(self._network._attentions()[layer], "__self__", None)
            if combination := combination_of(module):
                return combination
        operator, options = OPERATORS.get(self.attention(layer)), self._network.settings.get("attention_options")
        return "scale" if operator is None else operator.combination_of(options or {})

    def outputs(self, images: Float[Array, "*batch x y 1 c"]) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes of what leaves every layer, and the network, by name."""
        *maps, logits = nnx.eval_shape(_feature_maps, self._network, images)
        return {f"layer {i}": shape for i, shape in enumerate(maps, 1)} | {"logits": logits}

    def functions(self) -> Callable[[Array, int], Array]:
        """A compiled function of images, and of which of `outputs` it is to return."""
        return lambda images, i: _feature_maps(self._network, images)[i]


def layers_of(network: nnx.Module) -> RegisteredLayers | FoundLayers:
    """The layers of a copy of a network in evaluation mode, whatever mode the network is in."""
    check_module("network", network)
    copy = nnx.clone(network)
    copy.eval()
    registered = {entry.network for entry in NETWORKS.values()}
    return RegisteredLayers(copy) if isinstance(network, Network) or type(network) in registered else FoundLayers(copy)


def as_output(f: Array | jax.ShapeDtypeStruct, batch: int, group: Group, name: str) -> tuple[tuple[int, ...], Kind]:
    """How a group acts on what leaves a layer of images with `batch` leading axes, as its shape tells.

        [*batch, x, y, h, c]  a feature map; an image if h is 1
        [*batch, x, y, c]     an image
        [*batch, h, c]        a feature map of one pixel, if h is the group's order
        fewer, or others      invariant

    Returns:
      The shape in which `equivariance_error` takes it, and its kind.
    """
    rank, order = f.ndim - batch, group.order
    h, c = (1, 1, *f.shape)[-2:]
    if rank == 4 and h in (1, order):
        return f.shape, "image" if h == 1 else "feature_map"
    if rank == 3:
        return (*f.shape[:-1], 1, c), "image"
    if rank == 2 and h == order > 1:
        return (*f.shape[:-2], 1, 1, h, c), "feature_map"
    if rank < 3:
        return f.shape, "invariant"
    raise ValueError(
        f"{name} must give [batch, x, y, h, c] with h = 1 or, for {group}, {order}, got shape {f.shape}: it cannot be "
        "told how the group acts on it"
    )


@functools.partial(nnx.jit, static_argnames=("layer", "finish"))
def _attention_map(network, images, layer, finish):
    maps = network.attention_maps(images)[layer]
    return maps if finish is None else finish(maps)


@nnx.jit
def _feature_maps(network: nnx.Module, images: Array) -> list[Array]:
    """What follows every layer, the logits last."""
    return network.feature_maps(images)[1:]
