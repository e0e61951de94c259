"""Group convolution, pooling, and projection over the group, on feature maps `[..., x, y, h, c]`."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax import checks, kernels
from attgconv_jax.antialiasing import mean_deviation, smoothed, smoothed_before, smoothed_maximum, smoothed_power
from attgconv_jax.bases import FilterBasis
from attgconv_jax.filters import Sampling, check_sampling, filter_size, former_sampling, transformed
from attgconv_jax.geometry import Padding, check_symmetric_grid, windows_of
from attgconv_jax.groups import Group, check_on_group
from attgconv_jax.kernels.chunks import sum_dtype, wide
from attgconv_jax.kernels.elements import on_elements
from attgconv_jax.kernels.taps import Window


@former_sampling
def group_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    w: Float[Array, "*pixels h_in c_in c_out"],
    group: Group,
    *,
    stride: int = 1,
    padding: Padding = "VALID",
    dilation: int = 1,
    haar: bool = False,
    exact: bool = True,
    antialiased: bool = False,
    sampling: Sampling | FilterBasis = Sampling(),
    implementation: str | None = None,
    precision: str | None = None,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """Group convolution (as a cross-correlation); on an image (`h_in == 1`) the lifting convolution.

        y[x, g, o] = weight * sum over u, h', c of  f[x + u, h', c] (L_g w)[u, h', c, o]

    `weight` is the Haar weight of one group element, `group.haar_weight`, if `haar` is set and `f` is no image; else 1.

    >>> import jax, jax.numpy as jnp
    >>> from attgconv_jax import cyclic, group_conv
    >>> image, p4 = jnp.ones([8, 28, 28, 1, 3]), cyclic(4)
    >>> lifted = group_conv(image, jnp.ones([5, 5, 1, 3, 10]), p4)
    >>> lifted.shape
    (8, 24, 24, 4, 10)
    >>> group_conv(lifted, jnp.ones([3, 3, 4, 10, 16]), p4, padding="SAME").shape
    (8, 24, 24, 4, 16)

    Options:
      f: feature map, or image; its dtype is that of `w`.
      stride: in pixels.
      padding: with zeros: pixels on every side, "SAME" or "VALID".
      dilation: of the filter, in pixels.
      haar: whether the sum over a feature map carries the Haar weight, as in the published networks.
      exact: whether a sampling grid that the group does not map to itself raises.
      antialiased: whether a convolution with a stride takes a low-pass of `f`, of deviation `0.75 stride`; see
        `attgconv_jax.low_pass`.
      sampling: of the filter, at other than right angles. With a `FilterBasis` the filter may be given by its
        coefficients, `[j, h_in, c_in, c_out]`.
      implementation: of the convolution: "rows", "fourier", "xla", or None: the fastest, which on a CPU is "fourier"
        where filters are large, channels many and images more than a few (28x28 pixels on p4: 16 channels, 7 pixels,
        8 images; not 5 pixels, nor 1 image). That one makes every output from all pixels of its image: one NaN
        makes all of them NaN, and far from a pixel of 1e5 among ones float32 errs by 1e-4 to 1e-3 of the output. With
        "rows" and "xla" outputs depend on the pixels in their windows alone. See `attgconv_jax.kernels.conv`.
      precision: of all products, and of those of derivatives: "default", "high" or "highest"; None: as JAX is set. See
        `attgconv_jax.computing`.

    Source: Cohen and Welling 2016; Romero et al. 2020, section 2.
    """
    windows = check_convolution(f, w, group, stride, padding, dilation, haar, exact, sampling)
    checks.check_boolean(antialiased=antialiased)
    with kernels.computing(precision=precision):
        if antialiased:
            f = smoothed_before(f, windows[0].stride)
        return convolve(f, w, group, windows, haar=haar, sampling=sampling, implementation=implementation)


def check_convolution(f, w, group, stride, padding, dilation, haar, exact, sampling) -> tuple[Window, Window]:
    """Raises a `ValueError` unless these are arguments of `group_conv`; its windows."""
    check_on_group(f, group)
    check_sampling(sampling)
    size = filter_size(w, group, sampling)
    checks.check_dtypes(f, w=w)
    checks.check_boolean(haar=haar, exact=exact)
    if f.shape[-2:] != w.shape[-3:-1]:
        raise ValueError(
            f"f has {f.shape[-2]} group elements and {f.shape[-1]} channels (shape {f.shape}), but w takes "
            f"{w.shape[-3]} and {w.shape[-2]} (shape {w.shape}){_lifting_hint(f, w)}"
        )
    windows = windows_of(size, stride, padding, dilation, f.shape[-4:-2])
    if exact:
        check_symmetric_grid(windows, group, f.shape[-4:-2], padding)
    return windows


def convolve(f, w, group, windows, *, haar=False, sampling=Sampling(), implementation=None):
    """`group_conv` of checked arguments."""

    def convolved(f, w, own):
        bank = transformed(w, group, sampling)
        if haar and bank.shape[2] > 1:
            bank = bank * group.haar_weight
        return convolve_bank(f, own(bank, -2), windows, implementation)

    return on_elements(convolved, f, w, order=group.order)


def convolve_bank(f, bank, windows, implementation=None):
    """What a filter bank `[k, k, h_in, c_in, h, c_out]` makes of images `[image, x, y, h_in, c_in]`."""
    k, _, h_in, c_in, h, c_out = bank.shape
    f, bank = f.reshape(*f.shape[:3], h_in * c_in), bank.reshape(k, k, h_in * c_in, h * c_out)
    flat = kernels.conv(f, bank, windows, implementation)
    return flat.reshape(*flat.shape[:3], h, c_out)


def convolve_centred(f, w, group, dilation=1, **options):
    """`convolve` with a filter of odd size, and as many zeros around `f` as keep its size."""
    padding = dilation * (len(w) // 2)
    window = Window(len(w), low=padding, high=padding, dilation=dilation)
    return convolve(f, w, group, (window, window), **options)


def add_bias(y: Float[Array, "*shape c"], bias: Float[Array, " c"]) -> Float[Array, "*shape c"]:
    """`y[.., c] + bias[c]` in the type of `y`, without rank promotion; the gradient of `bias` is summed in float32."""
    return (wide(y) + jnp.expand_dims(wide(bias), range(y.ndim - 1))).astype(y.dtype)


def _lifting_hint(f, w):
    """What to do where images meet filters on feature maps, or the reverse."""
    if f.shape[-2] == 1 and w.shape[-3] > 1:
        return "; f is an image: lift it, with lifting=True or a filter of one input group element"
    if f.shape[-2] > 1 and w.shape[-3] == 1:
        return "; f is a feature map: leave out lifting=True, or take a filter of all its group elements"
    return ""


def grouped_group_conv(
    f: Float[Array, "*batch x y h_in c_in"],
    w: Float[Array, "*pixels h_in c_part c_out"],
    group: Group,
    channel_groups: int,
    **options,
) -> Float[Array, "*batch x_out y_out h c_out"]:
    """`group_conv` whose channels fall into `channel_groups` separate parts, neighbours together.

        y[part p] = group_conv(f[part p], w[.., part p])

    Every part of the output sees one part of the input, at all group elements. `options` are those of `group_conv`.

    Source: Xie et al. 2017 (grouped convolutions); on a group our own.
    """
    # Before they are split, so that messages show the user's shapes.
    check_on_group(f, group)
    sampling = options.get("sampling", Sampling())
    check_sampling(sampling)
    filter_size(w, group, sampling)
    checks.check_dtypes(f, w=w)
    channel_groups = checks.check_divisor("channel_groups", channel_groups, f.shape[-1], w.shape[-1])
    if channel_groups == 1:
        return group_conv(f, w, group, **options)
    c_part, c_out = f.shape[-1] // channel_groups, w.shape[-1]
    if w.shape[-3:-1] != (f.shape[-2], c_part):
        hint = _lifting_hint(f, w)
        raise ValueError(
            f"f has {f.shape[-2]} group elements and {f.shape[-1]} channels in {channel_groups} parts of {c_part} "
            f"(shape {f.shape}), but w takes {w.shape[-3]} and {w.shape[-2]} of a part (shape {w.shape}){hint}"
        )
    conv = jax.vmap(functools.partial(group_conv, group=group, **options), in_axes=(-2, -2), out_axes=-2)
    y = conv(f.reshape(*f.shape[:-1], channel_groups, c_part), w.reshape(*w.shape[:-1], channel_groups, -1))
    return y.reshape(*y.shape[:-2], c_out)


def max_pool(
    f: Float[Array, "*batch x y h c"],
    group: Group,
    *,
    window: int = 2,
    stride: int | None = None,
    padding: int = 0,
    exact: bool = True,
    antialiased: bool = False,
) -> Float[Array, "*batch x_out y_out h c"]:
    """Spatial maximum: `y[x, h, c] = max over u of f[x stride + u, h, c]`; padding counts as minus infinity.

    Options:
      window: size, in pixels.
      stride: between windows, in pixels; None: the window's size.
      padding: pixels on every side.
      exact: whether a grid of windows that the group does not map to itself raises.
      antialiased: whether maxima are taken at every pixel, and a low-pass of deviation `0.75 stride` of them at the
        windows' places; see `attgconv_jax.low_pass`. With stride 1 there is nothing to alias.

    Source: Cohen and Welling 2016, section 6.3; Zhang 2019 (`antialiased`).
    """
    windows = _pooling_windows(f, group, window, stride, padding, exact, antialiased)
    if antialiased and windows[0].stride > 1:
        return smoothed_maximum(f, windows)
    return kernels.window_maximum(f, windows, f.ndim - 4)


def mean_pool(
    f: Float[Array, "*batch x y h c"],
    group: Group,
    *,
    window: int = 2,
    stride: int | None = None,
    padding: int = 0,
    exact: bool = True,
    antialiased: bool = False,
) -> Float[Array, "*batch x_out y_out h c"]:
    """Spatial mean: `y[x, h, c] = mean over u of f[x stride + u, h, c]`; padding counts as zeros.

    Arguments as `max_pool`, but `antialiased`: the mean is Gaussian, about the same places and as wide as the window
    (of deviation `sqrt((window^2 - 1) / 12)`), at least `0.75 stride`; padding counts as nothing.
    """
    windows = _pooling_windows(f, group, window, stride, padding, exact, antialiased)
    if antialiased and windows[0].stride > 1:
        return smoothed(f, windows, mean_deviation(windows[0]))
    sums = kernels.window_sum(f.astype(sum_dtype(f)), windows, f.ndim - 4)
    return (sums / window**2).astype(f.dtype)


def smooth_max_pool(
    f: Float[Array, "*batch x y h c"],
    group: Group,
    *,
    window: int = 2,
    stride: int | None = None,
    padding: int = 0,
    exact: bool = True,
    power: float = 4.0,
) -> Float[Array, "*batch x_out y_out h c"]:
    """A smooth maximum over a round window, of what is not negative: the power mean with Gaussian weights.

        y[x, h, c] = (sum over u of A[x, u] max(f[u, h, c], 0)^power)^(1 / power)

    `A` are those of `mean_pool` with `antialiased`: about the same places, as wide, and of sum 1. A square window of
    maxima is not round, and behind a relu this is equivariant several times better at angles that the grid lacks.

    Arguments as `max_pool`; further:

    Options:
      power: the larger, the nearer to a maximum; 1 is the mean.

    Source: generalised-mean pooling (Radenovic et al. 2018, arXiv 1711.02512), over the whole map; the window is our
    own.
    """
    windows = _pooling_windows(f, group, window, stride, padding, exact, False)
    (power,) = checks.check_finite_positive(power=power)
    return smoothed_power(f, windows, mean_deviation(windows[0]), power)


def project_max(f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x y 1 c"]:
    """Projection to an image, which turns as the input turns: `y[x, c] = max over h of f[x, h, c]`.

    The group axis stays, with length 1.

    Source: Cohen and Welling 2016, section 6.3 (coset pooling over the whole group).
    """
    checks.check_feature_map(f)
    return jnp.expand_dims(kernels.maximum(f, axis=-2), -2)


def project_mean(f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x y 1 c"]:
    """Projection to an image, like `project_max`: `y[x, c] = mean over h of f[x, h, c]`."""
    checks.check_feature_map(f)
    return jnp.mean(f, axis=-2, keepdims=True)


def _pooling_windows(f, group, size, stride, padding, exact, antialiased):
    """Raises a `ValueError` unless these are arguments of a pooling; its windows."""
    check_on_group(f, group)
    checks.check_boolean(exact=exact, antialiased=antialiased)
    shape = f.shape[-4:-2]
    size, stride, padding = checks.check_pooling(size, stride, padding)
    windows = windows_of(size, stride, padding, 1, shape)
    if exact:
        check_symmetric_grid(windows, group, shape, padding)
    return windows
