"""Response attention: attention during the convolution, without ever holding the responses."""

import functools
import warnings
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attgconv_jax.kernels.chunks import sum_dtype
from attgconv_jax.kernels.response import reference, xla
from attgconv_jax.kernels.taps import Window

Implementation = Literal["xla", "reference"]

_IMPLEMENTATIONS = {"xla": xla, "reference": reference}


class ChannelBank(NamedTuple):
    """Weights of the channel attention's networks `mlp(s) = w2 relu(w1 s)`, one for every `(h, m)`."""

    w1: Float[Array, "h m c_hid c"]
    w2: Float[Array, "h m c c_hid"]


def response_attention(
    f: Float[Array, "batch x y h c"],
    bank: Float[Array, "k l h c m"],
    channel: ChannelBank | None,
    spatial: Float[Array, "k_a k_a 2 h m"] | None,
    windows: tuple[Window, Window],
    *,
    dilation: int = 1,
    implementation: Implementation | None = None,
) -> Float[Array, "batch x_out y_out m"]:
    """The part of every response that attention marks, summed: what attention takes from a convolution.

        out[x, m] = sum over h, c of  alpha_X[x, h, m] alpha_C[h, c, m] r[x, h, c, m]
        r[x, h, c, m] = sum over u of  f[x s + u d - p, h, c] bank[u, h, c, m]
        alpha_C[h, c, m] = sigmoid(mlp(mean over x of r) + mlp(max over x of r))
        alpha_X[x, h, m] = sigmoid(sum over u, s of  s[x + u d_a, h, m] spatial[u, s, h, m]),
                           s = (mean over c, max over c) of alpha_C r, zero outside the responses

    A factor whose weights are None is 1. `m` counts the filters of all output group elements: the kernel knows no
    group. Computed in float32 at least. Differentiable in reverse mode; of several equal elements the first is the
    maximum and takes the gradient. (Second derivatives are right where no two elements are equal.) Of images spread
    over an explicit mesh every device attends to its own; a `jax.shard_map` of the caller's needs `check_vma=False`.

    Args:
      f: feature maps.
      bank: filters.
      channel: weights of `alpha_C`, or None.
      spatial: filters of `alpha_X`, the mean's before the maximum's, of odd size `k_a`; or None.
      windows: sizes, strides `s`, paddings `p` and dilations `d` of the filters along `x` and `y`.
      dilation: `d_a` of the spatial attention filters, in pixels.
      implementation: "xla" (in tiles, see `attgconv_jax.kernels.response.xla`), "reference" (the formulas,
        with every response stored), or None: the first of these that takes the arguments, with a warning if it is not
        the first of all.

    Returns:
      The attended responses, of the dtype of `f`.

    Raises:
      ValueError: unknown implementation, or none that takes the arguments; both factors are left out; the arrays are
        not of one floating dtype, or their shapes do not fit each other or the windows; the dilation is no size.

    Source: Romero et al. 2020, sections 3.2 and 4; the tiling is our own.
    """
    return _call("attended_responses", f, bank, channel, spatial, windows, dilation, implementation).astype(f.dtype)


def response_attention_maps(
    f: Float[Array, "batch x y h c"],
    bank: Float[Array, "k l h c m"],
    channel: ChannelBank | None,
    spatial: Float[Array, "k_a k_a 2 h m"] | None,
    windows: tuple[Window, Window],
    *,
    dilation: int = 1,
    implementation: Implementation | None = None,
) -> tuple[Float[Array, "batch 1 1 h c m"] | None, Float[Array, "batch x_out y_out h 1 m"] | None]:
    """`alpha_C` and `alpha_X` of `response_attention`, for pictures; None for a factor that is left out.

    Differentiable, but only in part in tiles: the backward pass stores much of what the forward pass had.

    Args, Raises and Source: as of `response_attention`.

    Returns:
      The maps, in (0, 1), in float32 at least.
    """
    return _call("attention_maps", f, bank, channel, spatial, windows, dilation, implementation)


def check_implementation(implementation: str | None) -> None:
    """Refuses unknown implementations.

    Args:
      implementation: None, or a name of `Implementation`.

    Raises:
      ValueError: it is neither.
    """
    if implementation is not None and implementation not in _IMPLEMENTATIONS:
        names = ", ".join(f'"{name}"' for name in _IMPLEMENTATIONS)
        raise ValueError(f"implementation must be None or one of {names}, got {implementation!r}")


def _call(formula, f, bank, channel, spatial, windows, dilation, implementation):
    _check(f, bank, channel, spatial, windows, dilation)
    check_implementation(implementation)
    dtype = sum_dtype(f)
    arrays = jax.tree.map(lambda x: x.astype(dtype), (f, bank, channel, spatial))
    refusals = []
    for candidate in _IMPLEMENTATIONS if implementation is None else [implementation]:
        step = functools.partial(getattr(_IMPLEMENTATIONS[candidate], formula), windows=windows, dilation=dilation)
        try:
            return _on_every_device(step, arrays)
        except NotImplementedError as refusal:
            refusals.append(f"{candidate}: {refusal}")
            if implementation is None and candidate != "reference":
                message = f"response attention is not computed by {refusals[-1]}; the next may take far more memory"
                warnings.warn(message, stacklevel=3)
    raise ValueError("no implementation takes these arguments; " + "; ".join(refusals))


def _check(f, bank, channel, spatial, windows, dilation):
    if channel is None and spatial is None:
        raise ValueError("response attention needs channel weights or spatial filters, got neither")
    if f.ndim != 5 or bank.ndim != 5 or 0 in (*f.shape[1:], *bank.shape):
        raise ValueError(
            f"f and bank must be [batch, x, y, h, c] and [k, l, h, c, m], no axis but the batch empty, got {f.shape} "
            f"and {bank.shape}"
        )
    h, c, _ = bank.shape[2:]
    if f.shape[3:] != (h, c):
        raise ValueError(f"f {f.shape} must have the group elements and channels of bank {bank.shape}, {h} and {c}")
    _check_windows(windows, f, bank)
    _check_weights(channel, spatial, bank)
    if isinstance(dilation, bool) or not isinstance(dilation, int) or dilation < 1:
        raise ValueError(f"dilation must be a Python integer of at least 1, got {dilation!r}")
    dtypes = {array.dtype for array in jax.tree.leaves((f, bank, channel, spatial))}
    if len(dtypes) > 1 or not jnp.issubdtype(f.dtype, jnp.floating):
        raise ValueError(
            f"f, bank and weights must be of one floating dtype, got {', '.join(sorted(map(str, dtypes)))}"
        )


def _check_windows(windows, f, bank):
    if not (
        isinstance(windows, tuple)
        and len(windows) == 2
        and all(isinstance(w, Window) for w in windows)
        and all(min(w.size, w.stride, w.dilation) >= 1 and min(w.low, w.high) >= 0 for w in windows)
    ):
        raise ValueError(
            "windows must be two Windows, with sizes, strides and dilations of at least 1 and paddings of at least 0, "
            f"got {windows}"
        )
    sizes = tuple(window.size for window in windows)
    if bank.shape[:2] != sizes:
        raise ValueError(f"bank {bank.shape} must have the size of the windows, {sizes[0]}x{sizes[1]}")
    outputs = [window.outputs(length) for window, length in zip(windows, f.shape[1:3], strict=True)]
    if min(outputs) < 1:
        raise ValueError(f"f {f.shape} is smaller than the windows {windows}: take larger images or padding")


def _check_weights(channel, spatial, bank):
    h, c, m = bank.shape[2:]
    if channel is not None:
        if not isinstance(channel, ChannelBank) or not all(hasattr(w, "ndim") for w in channel):
            raise ValueError(f"channel must be None or a ChannelBank of two arrays, got {type(channel).__name__}")
        hidden = channel.w1.shape[2] if channel.w1.ndim == 4 else "c_hid"
        if channel.w1.shape != (h, m, hidden, c) or channel.w2.shape != (h, m, c, hidden) or hidden == 0:
            raise ValueError(
                f"channel must have w1 [{h}, {m}, c_hid, {c}] and w2 [{h}, {m}, {c}, c_hid] with c_hid of at least 1, "
                f"got {channel.w1.shape} and {channel.w2.shape}"
            )
    if spatial is not None:
        shape = getattr(spatial, "shape", type(spatial).__name__)
        size = shape[0] if len(shape) == 5 else 0
        if shape != (size, size, 2, h, m) or size % 2 == 0:
            raise ValueError(f"spatial must be [k_a, k_a, 2, {h}, {m}] of odd size k_a, got {shape}")


def _on_every_device(function, arrays):
    """The function, where the images are spread over an explicit mesh each device for its own images."""
    axis, *others = jax.typeof(arrays[0]).sharding.spec
    if axis is None or any(other is not None for other in others):
        return function(*arrays)
    images = jax.P(axis)
    weights = jax.tree.map(lambda x: jax.P(), arrays[1:])
    return jax.shard_map(function, in_specs=(images, *weights), out_specs=images, check_vma=False)(*arrays)
