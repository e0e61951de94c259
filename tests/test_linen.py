"""The modules in Flax Linen, through Flax's own bridge."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx
from helpers import assert_close, random
from networks import with_random_arrays

from attgconv_jax import cyclic
from attgconv_jax.nn import AttentiveGroupConv, GroupConv

P4 = cyclic(4)


class Network(linen.Module):
    @linen.compact
    def __call__(self, image):
        f = nnx.bridge.to_linen(GroupConv, 1, 4, 3, P4, lifting=True, use_bias=True, name="lift")(image)
        attentive = nnx.bridge.to_linen(AttentiveGroupConv, 4, 2, 3, P4, attention="input", name="attentive")
        return linen.Dense(3, name="dense")(attentive(linen.relu(f)))


def test_modules_work_in_linen_and_give_what_they_give_in_nnx():
    image = random(2, 9, 9, 1, 1).astype(jnp.float32)
    network = Network()
    parameters = jax.jit(network.init)(jax.random.key(1), image)["params"]
    shapes = jax.tree.map(jnp.shape, parameters)
    assert shapes["lift"] == {"w": (3, 3, 1, 1, 4), "bias": (4,)}
    assert shapes["attentive"] == {
        "attention": {"weights": {"channel": {"w1": (2, 4, 4), "w2": (4, 2, 4)}, "spatial": (7, 7, 4, 2, 1)}},
        "conv": {"w": (3, 3, 4, 4, 2)},
    }
    lift = with_random_arrays(lambda: GroupConv(1, 4, 3, P4, lifting=True, use_bias=True, rngs=nnx.Rngs(0)))
    attentive = with_random_arrays(lambda: AttentiveGroupConv(4, 2, 3, P4, attention="input", rngs=nnx.Rngs(0)))
    for module, name in ((lift, "lift"), (attentive, "attentive")):
        state = nnx.state(module, nnx.Param)
        nnx.replace_by_pure_dict(state, parameters[name])
        nnx.update(module, state)
    expected = jax.jit(lambda image: attentive(jax.nn.relu(lift(image))))(image) @ parameters["dense"]["kernel"]
    outputs = jax.jit(network.apply)({"params": parameters}, image)
    assert outputs.shape == (2, 5, 5, 4, 3)
    assert_close(outputs, expected, 1e-5)


def test_parameters_in_linen_have_gradients_and_depend_on_the_key():
    image = random(2, 9, 9, 1, 1).astype(jnp.float32)
    network = Network()
    init = jax.jit(network.init)
    parameters, other = (init(jax.random.key(seed), image)["params"] for seed in (1, 2))
    assert not np.allclose(parameters["lift"]["w"], other["lift"]["w"])
    gradients = jax.jit(jax.grad(lambda p: jnp.sum(jnp.square(network.apply({"params": p}, image)))))(parameters)
    for gradient in jax.tree.leaves(gradients):
        assert np.any(gradient)
        assert np.all(np.isfinite(gradient))
