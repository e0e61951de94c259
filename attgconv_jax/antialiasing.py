"""Sampling down, nonlinearities and borders that are equivariant between the pixels, too.

A grid cannot hold what is finer than two pixels. What makes such detail, a relu or a maximum, or leaves out pixels, a
stride, folds it back as something that does not turn with the image. So feature maps are smoothed before pixels are
left out, and nonlinearities see them between the pixels, too. All of it is a product with a static matrix along `x` and
one along `y`, alike on square maps and symmetric about the centre: it commutes with quarter turns and reflections.

A square border is not invariant to rotation: pixels at the corners of one map are padding in a turned one.
`circular_mask` takes the corners away.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from attgconv_jax import kernels
from attgconv_jax.checks import check_boolean, check_feature_map, check_finite_positive, check_integer
from attgconv_jax.geometry import check_symmetric_grid, windows_of
from attgconv_jax.groups import Group, check_on_group, frozen
from attgconv_jax.kernels.chunks import sum_dtype, wide
from attgconv_jax.kernels.taps import Window

DEVIATION = 0.75
"""Standard deviation of the Gaussian low-pass before subsampling, in units of the stride."""

# Of the windowed sinc: pixels on either side, and the parameter of Kaiser's window. Of half a cycle a pixel, the most
# that pixels hold, it keeps half; up to 0.35 cycles all, above 0.65 nothing.
_REACH, _KAISER = 6, 8

# Standard deviation of the mask's edge, in pixels.
_EDGE = 0.5


def low_pass(
    f: Float[Array, "*batch x y h c"],
    group: Group,
    *,
    deviation: float = 1.5,
    stride: int = 1,
    exact: bool = True,
) -> Float[Array, "*batch x_out y_out h c"]:
    """A Gaussian low-pass, and one position in `stride` along each axis.

        y[x, h, c] = sum over u of A[x_1, u_1] A[x_2, u_2] f[u, h, c],
        A[i, u] = exp(-(stride i - u)^2 / (2 deviation^2)) / (the same, summed over the u of the image)

    Beyond the border counts as nothing: a constant stays what it is, up to there. Only positions that are kept are
    computed.

    >>> import jax.numpy as jnp
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.antialiasing import low_pass
    >>> low_pass(jnp.ones([2, 65, 65, 8, 3]), cyclic(8), stride=2).shape
    (2, 33, 33, 8, 3)

    Options:
      deviation: of the Gaussian, in pixels.
      stride: between the positions that are kept, in pixels.
      exact: whether kept positions that the group does not map to themselves raise.

    Source: Zhang 2019 (arXiv 1904.11486), whose low-pass are binomials of a few taps, less round.
    """
    check_on_group(f, group)
    (deviation,) = check_finite_positive(deviation=deviation)
    (exact,) = check_boolean(exact=exact)
    shape = f.shape[-4:-2]
    windows = windows_of(1, check_integer("stride", stride), 0, 1, shape)
    if exact:
        check_symmetric_grid(windows, group, shape, 0)
    return smoothed(f, windows, deviation)


def oversampled(
    nonlinearity: Callable[[Array], Array], factor: int = 2, *, deviation: float | None = None
) -> Callable[[Array], Array]:
    """A pointwise nonlinearity that sees feature maps between their pixels, too, and leaves what the pixels can hold.

        y = D nonlinearity(U f),     grid n -> factor (n - 1) + 1 -> n along each axis

    `U` interpolates with a sinc in Kaiser's window, for `|t| < 6` pixels

        s(t) = sinc(t) I0(8 sqrt(1 - (t / 6)^2)) / I0(8)

    and `D` takes every `factor`-th position of a low-pass, with the same `s` or with a Gaussian. Rows of both sum to 1
    within the image, so that a constant becomes `nonlinearity(constant)`. The function takes feature maps of any group
    and any number of batch axes; it computes, and holds, about `factor^2` times as many numbers as they have.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from attgconv_jax.antialiasing import oversampled
    >>> oversampled(jax.nn.relu)(jnp.ones([2, 9, 9, 8, 3])).shape
    (2, 9, 9, 8, 3)

    Args:
      nonlinearity: of arrays, the same at every position.
      factor: positions per pixel along each axis.
      deviation: of the Gaussian, in pixels. It errs less and blurs more: 0.5 keeps 0.93 of a wave of an eighth of a
        cycle a pixel, and 0.29 of the finest; None: the windowed sinc, which keeps all that pixels hold.

    Raises:
      ValueError: the factor is below 2, the deviation not positive, or, when it is called, a feature map has one pixel
        along an axis.

    Source: Karras et al. 2021 (arXiv 2106.12423), section 3.1; filters and borders are our own.
    """
    factor = check_integer("factor", factor, 2)
    if deviation is not None:
        (deviation,) = check_finite_positive(deviation=deviation)

    def apply(f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x y h c"]:
        check_feature_map(f)
        if 1 in f.shape[-4:-2]:
            raise ValueError(
                f"f must have at least 2 pixels along x and y to be oversampled, got shape {f.shape}: between the "
                "pixels of one there is nothing, so apply the nonlinearity as it is"
            )
        lengths = f.shape[-4:-2]
        fine = resampled(f, [_interpolation(length, factor) for length in lengths])
        return resampled(nonlinearity(fine), [_decimation(length, factor, deviation) for length in lengths])

    # By which modules that hold it are told apart.
    name = getattr(nonlinearity, "__qualname__", repr(nonlinearity))
    apply.__qualname__ = apply.__name__ = f"oversampled({name}, {factor}, deviation={deviation})"
    return apply


def circular_mask(f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x y h c"]:
    """Multiplies by a disc: 1 at the centre, 0 beyond the largest circle that fits.

        y[x, h, c] = m(|x - centre|) / (the largest m) f[x, h, c],    m(r) = Phi((r_0 - r) / 0.5)

    `Phi` is the standard normal distribution function, and `r_0 = (n - 1) / 2` the distance of the outermost pixels,
    for `n` pixels along the shorter axis. The edge is smooth, because a sharp one is not equivariant on the grid.

    >>> import jax.numpy as jnp
    >>> from attgconv_jax.antialiasing import circular_mask
    >>> [round(float(m), 3) for m in circular_mask(jnp.ones([5, 5, 1, 1]))[2, :, 0, 0]]
    [0.5, 0.977, 1.0, 0.977, 0.5]

    Args:
      f: feature map, or image; of images `[batch, x, y, c]` take `f[..., None, :]`.

    Source: escnn (Weiler and Cesa 2019, arXiv 1911.08251), which masks images; the edge is our own.
    """
    check_feature_map(f)
    *batch, x, y, _, _ = f.shape
    mask = jnp.asarray(_disc(x, y).reshape(*[1] * len(batch), x, y, 1, 1), sum_dtype(f))
    return (mask * wide(f)).astype(f.dtype)


def smoothed(
    f: Float[Array, "*batch x y h c"], windows: tuple[Window, Window], deviation: float | None = None
) -> Float[Array, "*batch x_out y_out h c"]:
    """`low_pass` at the centres of windows on `f`; None: as wide as their strides ask for."""
    matrices = []
    for window, length in zip(windows, f.shape[-4:-2], strict=True):
        width = DEVIATION * window.stride if deviation is None else deviation
        first = window.dilation * (window.size - 1) / 2 - window.low
        matrices.append(gaussian_matrix(length, window.outputs(length), window.stride, first, width))
    return resampled(f, matrices)


def smoothed_before(f: Float[Array, "*batch x y h c"], stride: int) -> Float[Array, "*batch x y h c"]:
    """What a convolution of this stride takes in the place of `f`, so as not to alias; of stride 1 `f` itself.

    The low-pass stands before the convolution, which then need not be computed at positions that are left out: away
    from borders the two commute.
    """
    return f if stride == 1 else smoothed(f, (Window(1), Window(1)), DEVIATION * stride)


def smoothed_maximum(
    f: Float[Array, "*batch x y h c"], windows: tuple[Window, Window]
) -> Float[Array, "*batch x_out y_out h c"]:
    """Maxima over windows like these at every pixel, and a low-pass of them where these are."""
    dense = tuple(window._replace(stride=1) for window in windows)
    f = kernels.window_maximum(f, dense, f.ndim - 4)
    return smoothed(f, tuple(Window(1, window.stride) for window in windows))


def smoothed_power(
    f: Float[Array, "*batch x y h c"], windows: tuple[Window, Window], deviation: float, power: float
) -> Float[Array, "*batch x_out y_out h c"]:
    """`(low-pass of max(f, 0)^power)^(1 / power)`, the low-pass at the centres of windows."""
    positive = jax.nn.relu(f.astype(sum_dtype(f)))
    # A factor that goes in and comes out again, so that no power overflows.
    of_rows = kernels.maximum(lax.stop_gradient(positive), axis=-3)
    largest = jnp.expand_dims(kernels.maximum(of_rows, axis=-3), (-4, -3))
    scale = jnp.where(largest == 0, 1, largest)
    mean = smoothed((positive / scale) ** power, windows, deviation)
    # The root has no derivative at 0.
    root = jnp.where(mean == 0, 0, jnp.where(mean == 0, 1, mean) ** (1 / power))
    return (scale * root).astype(f.dtype)


def mean_deviation(window: Window) -> float:
    """Of the Gaussian that takes the place of a mean over a window: that of its pixels, or its stride's if wider."""
    return max(DEVIATION * window.stride, math.sqrt((window.size**2 - 1) / 12))


def resampled(f: Float[Array, "*batch x y h c"], matrices: list[np.ndarray]) -> Float[Array, "*batch x_out y_out h c"]:
    """`y[i, j] = sum over x, y of A[i, x] B[j, y] f[x, y]`, summed in float32 at least."""
    dtype = sum_dtype(f)
    rows, columns = (jnp.asarray(matrix, dtype) for matrix in matrices)
    y = jnp.einsum("ix,...xyhc->...iyhc", rows, f.astype(dtype), precision="highest")
    return jnp.einsum("jy,...iyhc->...ijhc", columns, y, precision="highest").astype(f.dtype)


@functools.lru_cache(maxsize=256)
def _disc(x: int, y: int) -> Float[np.ndarray, "x y"]:
    """The mask of `circular_mask`."""
    rows, columns = (np.arange(length) - (length - 1) / 2 for length in (x, y))
    radius = (min(x, y) - 1) / 2
    mask = _normal_distribution((radius - np.hypot(rows[:, None], columns)) / _EDGE)
    return frozen(mask / np.max(mask))


def _normal_distribution(t):
    """The standard normal distribution function."""
    return 0.5 + 0.5 * np.vectorize(math.erf)(t / math.sqrt(2))


@functools.lru_cache(maxsize=256)
def gaussian_matrix(
    length: int, size: int, step: int, first: float, deviation: float
) -> Float[np.ndarray, "size length"]:
    """Gaussian means about `size` positions `first + step i` on an axis of `length` samples; each row's sum is 1."""
    positions = first + step * np.arange(size)
    return _normalised(_gaussian((positions[:, None] - np.arange(length)) / deviation))


@functools.lru_cache(maxsize=256)
def _interpolation(length: int, factor: int) -> Float[np.ndarray, "fine length"]:
    """`U` of `oversampled` on an axis of `length` samples."""
    return _normalised(_sinc(_distances(length, factor)))


@functools.lru_cache(maxsize=256)
def _decimation(length: int, factor: int, deviation: float | None) -> Float[np.ndarray, "length fine"]:
    """`D` of `oversampled` on an axis of `length` samples."""
    distances = _distances(length, factor).T
    return _normalised(_sinc(distances) if deviation is None else _gaussian(distances / deviation))


def _distances(length, factor):
    """Of fine positions from samples, in pixels."""
    return np.arange(factor * (length - 1) + 1)[:, None] / factor - np.arange(length)


def _sinc(t):
    """`s` of `oversampled`."""
    window = np.i0(_KAISER * np.sqrt(np.maximum(0, 1 - (t / _REACH) ** 2))) / np.i0(_KAISER)
    return np.where(np.abs(t) < _REACH, np.sinc(t) * window, 0)


def _gaussian(t):
    return np.exp(-(t**2) / 2)


def _normalised(weights):
    return frozen(weights / np.sum(weights, axis=1, keepdims=True))
