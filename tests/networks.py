"""Networks with random numbers in every array, and their arrays by the reference's names."""

import contextlib
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from helpers import relative_error

from attgconv_jax import act, cyclic, equivariance_error
from attgconv_jax.models import NETWORKS, AllCNN, DenseNet, Network, RotMNISTNet, register
from attgconv_jax.models.skeleton import ARRAYS, skeleton


def with_random_arrays(build, seed=0):
    """The module that `build` makes, in evaluation mode, with all parameters and running statistics random.

    Drawn in NumPy: the initialisers would be compiled anew for every shape.
    """
    generator = np.random.default_rng(seed)
    graphdef, arrays, rest = skeleton(build)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("scale", "var"):
            values = generator.uniform(0.5, 2, leaf.shape)
        elif name == "bias":
            # Positive, so that no layer dies and every logit depends on the image.
            values = generator.uniform(0, 1, leaf.shape)
        else:
            of_basis = name in ("w", "spatial_filter")
            fours = leaf.shape[:3] if of_basis else leaf.shape[-2:-1]
            fan_in = {1: (10,), 2: leaf.shape[:1], 3: leaf.shape[-1:], 4: fours, 5: leaf.shape[:4]}[leaf.ndim]
            scale = np.prod(fan_in) ** -0.5
            values = scale * generator.standard_normal(leaf.shape)
        return jnp.asarray(values, leaf.dtype)

    nnx.replace_by_pure_dict(arrays, jax.tree_util.tree_map_with_path(draw, nnx.to_pure_dict(arrays)))
    module = nnx.merge(graphdef, arrays, rest)
    module.eval()
    return module


def random_network(group, attention=None, *, make=RotMNISTNet, param_dtype=jnp.float64, seed=0, **settings):
    """A network with random arrays, in evaluation mode."""

    def build():
        return make(group=group, attention=attention, param_dtype=param_dtype, rngs=nnx.Rngs(0), **settings)

    return with_random_arrays(build, seed)


def random_network_of(name, group, attention=None, **settings):
    """As `random_network`, of the network with this name in the registry."""
    return random_network(attention=attention, group=group, make=NETWORKS[name].network, **settings)


class Means(Network):
    """Logits are multiples of the image's mean: compiled in no time. Its name in the registry is "means"."""

    def __init__(
        self, group, attention=None, *, attention_options=None, in_features=1, classes=3, dtype=None, param_dtype, rngs
    ):
        options = dict(attention_options=attention_options, in_features=in_features, classes=classes)
        super().__init__(group, attention, dtype=dtype, **options)
        self.slope = nnx.Param(jnp.arange(1, classes + 1, dtype=param_dtype))
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def _features(self, image):
        yield image
        yield self.dropout(jnp.mean(image, axis=(-4, -3, -2, -1))[..., None] * self.slope[...])

    def _attentions(self):
        return [None]


@contextlib.contextmanager
def means_registered():
    """Within it, `Means` is a network of the registry, of images of 4x4 pixels."""
    register("means", size=4)(Means)
    try:
        yield
    finally:
        del NETWORKS["means"]


def means(param_dtype=jnp.float32, **settings):
    """A network of one's own that is registered within `means_registered`, in training mode."""
    return Means(cyclic(4), **settings, param_dtype=param_dtype, rngs=nnx.Rngs(0))


def by_reference_name(network):
    """A network's arrays by the reference's names and in its axes, written down without the library's table."""
    arrays = {}
    convolutions, norms = _parts_by_reference_name(network)
    for prefix, layer in convolutions.items():
        if hasattr(layer, "attention"):
            filter_, weights = layer.conv.w, layer.attention.weights
            on_input = hasattr(weights, "spatial")
            channel, spatial = (weights.channel, weights.spatial) if on_input else (None, weights)
        else:
            filter_, spatial = layer.w, getattr(layer, "spatial", None)
            channel = None if getattr(layer, "w1", None) is None else (layer.w1, layer.w2)
        arrays[f"{prefix}.weight"] = _filter(filter_)
        if spatial is not None:
            arrays[f"{prefix}.spatial_attention.weight"] = _filter(spatial)
        for theirs, ours in zip(("weight_fc1", "weight_fc2"), channel or (), strict=False):
            array = np.asarray(ours[...])
            arrays[f"{prefix}.channel_attention.{theirs}"] = array[..., 0] if array.shape[-1] == 1 else array
    for prefix, norm in norms.items():
        for theirs, ours in (("weight", norm.scale), ("bias", norm.bias), ("running_mean", norm.mean)):
            arrays[f"{prefix}.{theirs}"] = np.asarray(ours[...])
        arrays[f"{prefix}.running_var"] = np.asarray(norm.var[...])
    return arrays


def _parts_by_reference_name(network):
    """Convolutions, and norms."""
    if isinstance(network, RotMNISTNet | AllCNN):
        convolutions = {f"c{i}": layer for i, layer in enumerate(network.convolutions, 1)}
        return convolutions, {f"bn{i}": norm for i, norm in enumerate(network.norms, 1)}
    convolutions, norms = {"c1": network.lifting}, {}
    if isinstance(network, DenseNet):
        for i in range(5):
            dense = network.layers[2 * i]
            norms[f"block_layers.{i}.bn"], convolutions[f"block_layers.{i}.conv"] = dense.norm, dense.conv
        for i in range(4):
            transition = network.layers[2 * i + 1]
            norms[f"trans_layers.{i}.bn"], convolutions[f"trans_layers.{i}.conv"] = transition.norm, transition.conv
        convolutions["c_out"], norms["bn_out"] = network.classifier.conv, network.classifier.norm
        return convolutions, norms
    for stage, name in enumerate(("layers_nc32", "layers_nc16", "layers_nc8")):
        for i, block in enumerate(network.stages[stage]):
            convolutions |= {f"{name}.{i}.c1": block.convolutions[0], f"{name}.{i}.c2": block.convolutions[1]}
            norms |= {f"{name}.{i}.bn1": block.norms[0], f"{name}.{i}.bn2": block.norms[1]}
        if stage:
            convolutions[f"{name}.0.fiber_map"] = network.stages[stage][0].shortcut
    convolutions["c_out"], norms["bn_out"] = network.classifier, network.norm
    return convolutions, norms


def _filter(variable):
    array = np.einsum("klhio->oihkl", np.asarray(variable[...]))
    return array[:, :, 0] if array.shape[2] == 1 else array


def leaves(network):
    """Every parameter and running statistic by its path, as NumPy arrays."""
    paths, _ = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(nnx.state(network, ARRAYS)))
    return {".".join(str(key.key) for key in path): np.asarray(leaf) for path, leaf in paths}


@nnx.jit
def logits(network, image):
    return network(image)


def invariance_error(function, image, group, depend=1e-3):
    """The error, once it is known that the logits depend on the image at all."""
    outputs = function(image)
    assert relative_error(outputs[0], outputs[1]) > depend
    return equivariance_error(function, image, group, output="invariant")


def error_of_generators(function, images, group, depend=1e-6):
    """Of invariance to a rotation and a reflection, which make all others: one call, for networks that take long."""
    generators = [1, group.rotations] if group.reflections else [1]
    turned = [act(images[:1], group, generator, "image") for generator in generators]
    first, other, *others = function(jnp.concatenate([images, *turned]))
    assert relative_error(other, first) > depend
    return max(relative_error(logits, first) for logits in others)


def count(network):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param)))
