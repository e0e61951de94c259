"""Whether a file is taken for that of its network: what rounding does is, anything else is not."""

import jax
import jax.numpy as jnp
from helpers import assert_refused

from attgconv_jax.export.comparison import largest_difference
from attgconv_jax.export.program import Program
from attgconv_jax.preprocessing import Preprocessing


def compared(logits, other):
    """The difference of a file that gives the probabilities of other logits than the network."""
    images = jax.ShapeDtypeStruct((3, 2, 2, 1), jnp.uint8)
    about = {"network": "it", "settings": None, "output": {"dtype": "float32"}}
    about["preprocessing"] = {"size": 2}
    prepare = Preprocessing(2).apply
    made = Program(lambda images: prepare(jnp.asarray(images)[..., None, :]), logits, images, logits, about)
    return largest_difference(made, lambda images: jax.nn.softmax(other(made.prepare(images))))


def test_certain_probabilities_hide_no_difference_of_logits():
    def logits(images):
        return jnp.sum(images, axis=(1, 2, 3))[:, None] * jnp.array([0, 10, 30], jnp.float32)

    assert compared(logits, logits) <= 1e-5
    with assert_refused("it was not exported: the file's numbers are "):
        compared(logits, lambda images: logits(images) * jnp.array([1, 1.2, 1], jnp.float32))


def test_probabilities_are_as_near_as_the_networks_own_rounding_lets_them_be():
    def steep(images):
        return jnp.sin(3000 * jnp.mean(images, axis=(1, 2, 3)))[:, None] * jnp.array([0, 1, 2], jnp.float32)

    def smooth(images):
        return jnp.mean(images, axis=(1, 2, 3))[:, None] * jnp.array([0, 1, 2], jnp.float32)

    off = jnp.array([0, 1e-4, 0], jnp.float32)
    with assert_refused("more than the 1", "that rounding may do"):
        compared(smooth, lambda images: smooth(images) + off)
    assert 1e-5 < compared(steep, lambda images: steep(images) + off) < 1e-4
