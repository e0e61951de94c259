"""What becomes of pixels of standardised images: 0 is the training pixels' mean, 1 their deviation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from experiments.augmentation.kinds import Images, register, up_to


@register("contrast", "pixels", help="Share: times a factor in 1 - it to 1 + it, about the picture's mean.", **up_to(1))
def contrast(key: Key[Array, ""], images: Images, limit: float) -> Images:
    """`m + a (f - m)`, `m` the picture's mean and `a` uniform in 1 - limit to 1 + limit."""
    factor = _uniform(key, images, 1 - limit, 1 + limit)
    mean = jnp.mean(images, axis=(1, 2, 3, 4), keepdims=True)
    return mean + factor * (images - mean)


@register(
    "brightness", "pixels", help="Deviations of the training pixels: plus at most so many, either way.", **up_to(10)
)
def brightness(key: Key[Array, ""], images: Images, limit: float) -> Images:
    """`f + b`, a number `b` for every picture, uniform in -limit to limit."""
    return images + _uniform(key, images, -limit, limit)


@register("noise", "pixels", help="Deviations of the training pixels: Gaussian noise of such a deviation.", **up_to(10))
def noise(key: Key[Array, ""], images: Images, deviation: float) -> Images:
    """`f + deviation z`, `z` standard normal in every pixel and channel."""
    return images + deviation * jax.random.normal(key, images.shape, images.dtype)


@register("cutout", "pixels", help="Share of the side: a square so large becomes the training mean.", **up_to(1))
def cutout(key: Key[Array, ""], images: Images, side: float) -> Images:
    """Puts the mean of the training pixels, 0, in a square of every picture, that may reach beyond the edge.

    Its centre is uniform over the picture; it is `side` times as long along each axis as the picture.

    Source: DeVries and Taylor 2017 (arXiv 1708.04552).
    """
    centres = jax.random.uniform(key, (2, len(images), 1), images.dtype)
    inside = [
        jnp.abs((jnp.arange(n, dtype=images.dtype) + 0.5) / n - centre) < side / 2
        for n, centre in zip(images.shape[1:3], centres, strict=True)
    ]
    covered = inside[0][:, :, None] & inside[1][:, None, :]
    return jnp.where(covered[..., None, None], 0, images)


def _uniform(key, images, lower, upper):
    """A number a picture."""
    return jax.random.uniform(key, (len(images), 1, 1, 1, 1), images.dtype, lower, upper)
