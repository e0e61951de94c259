"""The logits of `alpha_X` in blocks: maps of many images correlated with attention filters, and the gradients.

    l[x, h, m] = sum over v of  t[x + v d, h, m] filters[v, 0, h, m] + s[x + v d, h, m] filters[v, 1, h, m]

On a GPU one convolution of `t` and `s` side by side, in groups of two channels; a TPU is several times faster at two
convolutions in groups of one.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def turn(filters: Float[Array, "k k 2 h m"]) -> Float[Array, "k k h m 2"]:
    """Turned by half a turn, as the gradients of the maps need them."""
    return filters[::-1, ::-1].transpose(0, 1, 3, 4, 2)


class Correlation(NamedTuple):
    """Of maps `t, s` of so many positions along `x` and `y`, with filters of this dilation."""

    counts: tuple[int, int]
    dilation: int

    def logits(self, maps: tuple, filters: Float[Array, "k k 2 h m"]) -> Float[Array, "h b n m"]:
        """The formula; `maps` are two."""
        return _on_platform(self._logits_one_by_one, self._logits_together)(maps, filters)

    def backward(self, maps, filters, turned, d_logits: Float[Array, "h b n m"]) -> tuple[tuple, Array]:
        """Gradients of the two maps and of the filters; `turned` is `turn(filters)`."""
        steps = (self._backward_one_by_one, self._backward_together)
        return _on_platform(*steps)(maps, filters, turned, d_logits)

    def _logits_one_by_one(self, maps, filters):
        images = (self._convolve(self._images(of), filters[:, :, i, None]) for i, of in enumerate(maps))
        return self._maps(sum(images), len(maps[0]))

    def _backward_one_by_one(self, maps, filters, _, d_logits):
        return jax.vjp(self._logits_one_by_one, maps, filters)[1](d_logits)

    def _logits_together(self, maps, filters):
        return self._maps(self._convolve(self._images(jnp.stack(maps, axis=-1)), filters), len(maps[0]))

    def _backward_together(self, maps, filters, turned, d_logits):
        h, m = filters.shape[3:]
        d_images = self._convolve(self._images(d_logits), turned[:, :, None])
        d_both = d_images.reshape(len(maps[0][0]), math.prod(self.counts), h, m, 2).transpose(2, 0, 1, 3, 4)
        pull_back = jax.vjp(functools.partial(self._logits_together, maps), filters)[1]
        return (d_both[..., 0], d_both[..., 1]), pull_back(d_logits)[0]

    def _convolve(self, images, filters):
        filters = filters.reshape(*filters.shape[:3], -1)
        reach = self.dilation * (len(filters) // 2)
        return lax.conv_general_dilated(
            images,
            filters,
            window_strides=(1, 1),
            padding=[(reach, reach)] * 2,
            rhs_dilation=(self.dilation, self.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=images.shape[-1] // filters.shape[2],
        )

    def _images(self, maps):
        """`[h, b, n, m, ..] -> [b, x, y, (h m ..)]`."""
        h, batch, _, *channels = maps.shape
        return jnp.moveaxis(maps, 0, 2).reshape(batch, *self.counts, h * math.prod(channels))

    def _maps(self, images, h):
        """The inverse, for `[h, b, n, m]`."""
        batch, x, y, channels = images.shape
        return images.reshape(batch, x * y, h, channels // h).transpose(2, 0, 1, 3)


def _on_platform(one_by_one, together):
    return functools.partial(lax.platform_dependent, tpu=one_by_one, default=together)
