"""Pictures mixed with each other, and their labels with them."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from experiments.augmentation.kinds import Images, register


@register(
    "mixup",
    "mixture",
    type=float,
    default=0.0,
    expected="not negative",
    good=lambda value: 0 <= value < math.inf,
    help="Alpha, such as 0.2: pairs mixed in shares of Beta(alpha, alpha); the larger counts in the training error.",
)
def mixup(
    key: Key[Array, ""], images: Images, alpha: float
) -> tuple[Images, Int[Array, " batch"], Float[Array, " batch"]]:
    """`s f[i] + (1 - s) f[j]`, `j` a permutation of the batch, `s` of Beta(alpha, alpha), each picture its own.

    Of `s` and `1 - s` the larger is taken: as `i` and `j` may be swapped, mixtures are distributed as in the paper,
    and every picture is the larger part of one. The loss is mixed alike.

    Source: Zhang et al. 2018 (arXiv 1710.09412).
    """
    of_pairs, of_shares = jax.random.split(key)
    others = jax.random.permutation(of_pairs, len(images))
    drawn = jax.random.beta(of_shares, alpha, alpha, (len(images),), images.dtype)
    own = jnp.maximum(drawn, 1 - drawn)
    part = own.reshape(-1, 1, 1, 1, 1)
    return part * images + (1 - part) * images[others], others, own
