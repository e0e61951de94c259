"""Group networks that start from the weights of plain ones."""

import dataclasses
import pathlib
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attgconv_jax.checks import check_choice
from attgconv_jax.groups import Group, check_group, trivial
from attgconv_jax.models.arrays import by_name, key_name
from attgconv_jax.models.base import Network, check_module
from attgconv_jax.models.description import builder, describe_registered, registered_name
from attgconv_jax.models.skeleton import ARRAYS, skeleton
from attgconv_jax.nn import ResponseAttentiveGroupConv

Pointwise = Literal["average", "identity"]


def inflate(network: Network, group: Group, *, pointwise: Pointwise = "average") -> Network:
    """Makes a network on a group that starts from the weights of a plain one, which is on the trivial group.

    Filters on feature maps stand in the slot of the group's identity element, `w[k, k, e, c_in, c_out]`, and are zero
    in the others; so do filters and positions of attention that have pixels, `w[k, k, e, c]`. Filters on images, norms,
    biases and the classifier are copied. A 1x1 layer (a filter of one pixel, or a matrix on statistics, as attention
    has them) is

    - "average": `w / |H|` at every element of the group;
    - "identity": in the identity's slot, as the other filters.

    Attention on responses never sums over elements: with "average" its matrices are `w` at every element, and the
    filter that they attend to is in the identity's slot, whatever its size.

    What equals what, in evaluation mode and where the group maps the image's grids to themselves (see `exact` of the
    networks):

    - "identity": the feature maps at element `g` are those of the plain network for the image moved by `g^-1`, moved
      back by `g`. So the logits are those of the plain network for the image moved by every `g`, projected as the
      network projects: the maximum over `g` in "rot_mnist", the mean in the others. Exceptions: attention that pairs
      positions ("non_local", "self") and attention on the image itself ("input", "co" and the like in all networks but
      "resnet"), which on a group is a maximum over its elements.
    - "average": that holds up to the first 1x1 layer, which gives every element what the plain one gives of the mean
      over the group; logits of the plain network are kept where there is no such layer.

    Either is a start for training: to begin with nothing connects different elements, or 1x1 layers alone do. The
    network is equivariant as any other on the group. It has as many channels per element as the plain one, hence `|H|`
    times the feature maps; no Haar weights; and is in evaluation mode.

    >>> from flax import nnx
    >>> from attgconv_jax import cyclic, trivial
    >>> from attgconv_jax.interop import inflate
    >>> from attgconv_jax.models import RotMNISTNet
    >>> plain = RotMNISTNet(trivial(), features=(2, 2, 2, 2, 2, 2), rngs=nnx.Rngs(0))
    >>> network = inflate(plain, cyclic(4))
    >>> plain.convolutions[1].w.shape, network.convolutions[1].w.shape
    ((3, 3, 1, 2, 2), (3, 3, 4, 2, 2))

    Args:
      network: one of the registry, on `trivial()`.
      group: of the network to be made.
      pointwise: what becomes of 1x1 layers.

    Raises:
      ValueError: the network is on another group, or not of the registry; filters on `group` are no pixels but
        coefficients of a basis.

    Source: our own.
    """
    check_module("network", network)
    check_group(group)
    check_choice("pointwise", pointwise, get_args(Pointwise))
    name = registered_name(network)
    if name is None or getattr(network, "group", None) != trivial():
        on = f"{type(network).__name__} on {getattr(network, 'group', None)}"
        raise ValueError(f"network must be one of the registry, on the trivial group, got {on}")
    description = describe_registered(name, network)
    settings = description["settings"] | {"group": dataclasses.asdict(group)}
    settings |= {"haar": False} if "haar" in settings else {}
    graphdef, arrays, rest = skeleton(builder(pathlib.Path(name), description | {"settings": settings}))
    plain = by_name(nnx.to_pure_dict(nnx.state(network, ARRAYS)))
    filters, carried = _of_responses(network)

    def inflated(path, leaf):
        key = ".".join(map(key_name, path))
        slot = "carried" if pointwise == "average" and key in carried else pointwise
        return jnp.asarray(_with_group_axis(key, np.asarray(plain[key]), leaf.shape, group, slot, key in filters))

    nnx.replace_by_pure_dict(arrays, jax.tree_util.tree_map_with_path(inflated, nnx.to_pure_dict(arrays)))
    made = nnx.merge(graphdef, arrays, rest)
    made.eval()
    return made


def _of_responses(network):
    """Names of arrays of layers with attention on responses: filters, and matrices that carry elements along."""
    layers = [
        ".".join(map(str, path))
        for path, module in nnx.iter_graph(network)
        if isinstance(module, ResponseAttentiveGroupConv)
    ]
    return {f"{layer}.w" for layer in layers}, {f"{layer}.{name}" for layer in layers for name in ("w1", "w2")}


def _with_group_axis(name, array, shape, group, pointwise, is_filter):
    """The array with the group axis that `shape` has."""
    if array.shape == shape:
        return array
    differing = [axis for axis, sizes in enumerate(zip(array.shape, shape, strict=False)) if sizes[0] != sizes[1]]
    if array.ndim != len(shape) or len(differing) != 1 or shape[differing[0]] != group.order:
        raise ValueError(
            f"group must leave filters free in every pixel, got {group}, on which {name} has shape {shape}: take a "
            'group of right angles, or a network with sampling=Sampling("bilinear")'
        )
    (axis,) = differing
    if pointwise == "carried":
        return np.repeat(array, group.order, axis)
    # Filters are [k, k, h, ...]; of matrices the group axis is the last.
    of_pixels = is_filter or (axis < array.ndim - 1 and array.shape[:2] != (1, 1))
    if pointwise == "average" and not of_pixels:
        return np.repeat(array / group.order, group.order, axis)
    others = np.zeros([n - (i == axis) for i, n in enumerate(shape)], array.dtype)
    return np.concatenate([array, others], axis)
