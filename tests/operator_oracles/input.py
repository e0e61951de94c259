"""alpha_F."""

from helpers import channel_weights
from oracles import input_attention

from attgconv_jax import InputWeights

VARIANTS = {"input": {}}


def oracle(f, weights, group):
    """From what is left of a map: `1 - input_attention(f) / f`."""
    return 1 - input_attention(f, weights.channel, weights.spatial, group) / f


def random_weights(array, c, h, order, variant):
    return InputWeights(channel_weights(c, h), array(3, 3, h, 2, 1))
