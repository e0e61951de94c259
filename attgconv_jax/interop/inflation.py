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

Pointwise = Literal["average", "identity"]


def inflate(network: Network, group: Group, *, pointwise: Pointwise = "average") -> Network:
    """Makes a network on a group that starts from the weights of a plain one, which is on the trivial group.

    Filters on feature maps stand in the slot of the group's identity element, `w[k, k, e, c_in, c_out]`, and are zero
    in the others. Filters on images, norms, biases and the classifier are copied. A 1x1 layer (a filter of one pixel,
    or a matrix on statistics, as attention has them) is

    - "average": `w / |H|` at every element of the group;
    - "identity": in the identity's slot, as the other filters.

    What equals what, in evaluation mode and where the group maps the image's grids to themselves (see `exact` of the
    networks):

    - "identity": the feature maps at element `g` are those of the plain network for the image moved by `g^-1`, moved
      back by `g`. So the logits are those of the plain network for the image moved by every `g`, projected as the
      network projects: the mean over `g` in "resnet" and "all_cnn", the maximum in "rot_mnist". Exceptions: attention
      that pairs positions ("non_local", "self") and attention on the image itself ("input", "co" and the like in
      "rot_mnist" and "all_cnn"), which on a group is a maximum over its elements.
    - "average": that holds up to the first 1x1 layer, which gives every element what the plain one gives of the mean
      over the group. No logits of the plain network are kept.

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

    def inflated(path, leaf):
        key = ".".join(map(key_name, path))
        return jnp.asarray(_inflated(key, np.asarray(plain[key]), leaf.shape, group, pointwise))

    nnx.replace_by_pure_dict(arrays, jax.tree_util.tree_map_with_path(inflated, nnx.to_pure_dict(arrays)))
    made = nnx.merge(graphdef, arrays, rest)
    made.eval()
    return made


def _inflated(name, array, shape, group, pointwise):
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
    if pointwise == "average" and (array.ndim != 5 or array.shape[:2] == (1, 1)):
        return np.repeat(array / group.order, group.order, axis)
    others = np.zeros([n - (i == axis) for i, n in enumerate(shape)], array.dtype)
    return np.concatenate([array, others], axis)
