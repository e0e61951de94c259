"""A script: layers on four simulated devices, in the three ways in which JAX shares work out, beside one device.

`python several_devices.py NAME ...` prints a line of JSON for each: errors of a loss and its gradients by way, relative
to the largest number of an array, the numbers that the compiled program exchanges, and how many parameters there are;
of some layers also the error where devices share group elements.
"""

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType

from attgconv_jax import computing, cyclic, dihedral
from attgconv_jax.lie import similarities
from attgconv_jax.nn import Dropout, GroupConv, LieAttention, set_axis_name
from attgconv_jax.nn.norm import batch_norm
from experiments.bench import eager
from experiments.bench.devices import AXIS, WAYS, exchanged

P4, P4M = cyclic(4), dihedral(4)


class Normalised(nnx.Module):
    """A convolution whose outputs are normalised and dropped at random."""

    def __init__(self, rngs):
        self.conv = GroupConv(4, 6, 3, P4M, padding=1, rngs=rngs)
        self.norm = batch_norm(6, None, jnp.float64, rngs)
        self.dropout = Dropout(0.5, rngs=rngs)
        self.further = Dropout(0.5, rngs=rngs)

    def __call__(self, f):
        key, f = jax.random.key(1), self.norm(self.conv(f))
        return self.further(self.dropout(f, key), key, f.size)


OF_TESTS = {
    "norm and dropout": (Normalised, 8),
    "lie attention, scales": (lambda rngs: LieAttention("sge", 4, similarities(2, 2, 2.0), rngs=rngs), 4),
}
LAYERS = eager.LAYERS | OF_TESTS
OF_ELEMENTS = "conv", "response", "response, channels", "response, positions"
"""Whose group elements devices also share."""


def main(names):
    """Prints the outcomes."""
    jax.config.update("jax_num_cpu_devices", 4)
    jax.config.update("jax_enable_x64", True)
    for name in names:
        print(json.dumps(outcome(name)), flush=True)


def outcome(name):
    """What is printed of a layer."""
    make, h = LAYERS[name]
    module = make(nnx.Rngs(0))
    module.train()
    generator = np.random.default_rng(0)
    f = generator.normal(size=(8, 8, 8, h, 4))

    graphs = {}
    for axis_name in (AXIS, None):
        set_axis_name(module, axis_name)
        graphs[axis_name], params, rest = nnx.split(module, nnx.Param, ...)

    def loss(params, rest, f, axis_name):
        layer = nnx.merge(graphs[axis_name], params, rest, copy=True)
        total = jnp.sum(jnp.sin(layer(f)))
        return (jax.lax.psum(total, axis_name) if axis_name else total), nnx.state(layer, nnx.BatchStat)

    def gradients(params, rest, f, axis_name=None):
        return jax.value_and_grad(loss, argnums=(0, 2), has_aux=True)(params, rest, f, axis_name)

    # Off their first values, of which some are zero and let nothing through.
    params = jax.tree.map(lambda x: x + 0.1 * generator.normal(size=x.shape), params)
    rest = jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, rest)
    expected = jax.jit(gradients)(params, rest, f)
    found = {"name": name, "parameters": sum(leaf.size for leaf in jax.tree.leaves(params))}
    for way in WAYS:
        mesh = jax.make_mesh((4,), (AXIS,), axis_types=(AxisType.Explicit if way == "explicit" else AxisType.Auto,))
        everywhere, batch = (jax.NamedSharding(mesh, spec) for spec in (jax.P(), jax.P(AXIS)))
        function = gradients
        if way == "shard_map":
            outputs = (jax.P(), jax.P()), (jax.P(), jax.P(AXIS))
            function = functools.partial(gradients, axis_name=AXIS)
            function = jax.shard_map(function, mesh=mesh, in_specs=(jax.P(), jax.P(), jax.P(AXIS)), out_specs=outputs)
        with jax.set_mesh(mesh):
            arrays = *jax.device_put((params, rest), everywhere), jax.device_put(f, batch)
            program = jax.jit(function).lower(*arrays).compile()
            actual = program(*arrays)
        found[way] = {"error": error(actual, expected), "exchanged": exchanged(program.as_text())}
    if name in OF_ELEMENTS:
        mesh = jax.make_mesh((2, 2), (AXIS, "group"))
        with jax.set_mesh(mesh), computing(group_axis="group"):
            everywhere, batch = (jax.NamedSharding(mesh, spec) for spec in (jax.P(), jax.P(AXIS)))
            arrays = *jax.device_put((params, rest), everywhere), jax.device_put(f, batch)
            found["elements"] = error(jax.jit(gradients)(*arrays), expected)
    return found


def error(actual, expected):
    """The largest difference of two trees, relative to the largest number of an array."""
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    # Some gradients are zero but for rounding, such as those of a bias before a norm.
    least = 1e-3 * max(np.max(np.abs(array)) for array in jax.tree.leaves(expected))
    return float(max(np.max(np.abs(np.asarray(a) - b)) / max(least, np.max(np.abs(b))) for a, b in pairs))


if __name__ == "__main__":
    main(sys.argv[1:])
