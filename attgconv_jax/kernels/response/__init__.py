"""Response attention: attention during the convolution, without ever holding the responses of a whole batch."""

import functools
import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
from jaxtyping import Array, Float

from attgconv_jax.checks import check_bytes
from attgconv_jax.kernels.chunks import require_known, sum_dtype
from attgconv_jax.kernels.devices import by_device
from attgconv_jax.kernels.portability import is_portable
from attgconv_jax.kernels.response import reference, xla
from attgconv_jax.kernels.settings import Dense
from attgconv_jax.kernels.taps import Window

Implementation = Literal["xla", "tiles", "blocks", "reference"]


# In bytes: on an accelerator the layers of the rot-MNIST networks are then one block each at batch 128.
MEMORY_BUDGET = 1_000_000_000


class _Formulas(NamedTuple):
    attended_responses: Callable
    attention_maps: Callable


_IMPLEMENTATIONS = {
    "xla": _Formulas(xla.attended_responses, xla.attention_maps),
    "tiles": _Formulas(functools.partial(xla.attended_responses, implementation="tiles"), xla.attention_maps),
    "blocks": _Formulas(functools.partial(xla.attended_responses, implementation="blocks"), xla.attention_maps),
    "reference": _Formulas(reference.attended_responses, reference.attention_maps),
}
_TRIED_IN_ORDER = "xla", "reference"


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
    memory_budget: int = MEMORY_BUDGET,
    implementation: Implementation | None = None,
) -> Float[Array, "batch x_out y_out m"]:
    """The part of every response that attention marks, summed: what attention takes from a convolution.

        out[x, m] = sum over h, c of  alpha_X[x, h, m] alpha_C[h, c, m] r[x, h, c, m]
        r[x, h, c, m] = sum over u of  f[x s + u d - p, h, c] bank[u, h, c, m]
        alpha_C[h, c, m] = sigmoid(mlp(mean over x of r) + mlp(max over x of r))
        alpha_X[x, h, m] = sigmoid(sum over u, s of  s[x + u d_a, h, m] spatial[u, s, h, m]),
                           s = (mean over c, max over c) of alpha_C r, zero outside the responses

    A factor whose weights are None is 1. `m` counts the filters of all output group elements: the kernel knows no
    group. Sums are in float32 at least, products as precise as the backend makes them. Differentiable to any order,
    forwards and in reverse; of several equal elements the first is the maximum and takes the gradient. (Second
    derivatives are right where no two elements are equal.) Forward mode computes the responses twice. Of images spread
    over an explicit mesh every device attends to its own.

    Shapes are checked by the caller, `attgconv_jax.response_attentive_group_conv`.

    Options:
      spatial: filters of `alpha_X`, the mean's before the maximum's, of odd size `k_a`; or None.
      windows: sizes, strides `s`, paddings `p` and dilations `d` of the filters along `x` and `y`.
      dilation: `d_a` of the spatial attention filters, in pixels.
      memory_budget: about how many bytes the temporary arrays of "blocks" may take in float32, if those of one image
        and input group element are no more; fewer blocks are faster. At most 16 % of it are kept for the backward
        pass, which otherwise computes it again (beyond 160 MB only what is less than the responses, if those fit the
        budget); this holds for "tiles" too. What `jax.vmap` adds is not counted.
      implementation: "tiles" (for CPUs, see `attgconv_jax.kernels.response.xla`), "blocks" (for accelerators, see
        `attgconv_jax.kernels.response.blocks`), "xla" (the one for the platform that the computation is lowered for),
        "reference" (the formulas, with every response stored), or None: "xla", and with a warning "reference" for
        arguments that it does not take; "reference" inside of `attgconv_jax.kernels.portable`.

    Source: Romero et al. 2020, sections 3.2 and 4; the tiling is our own.
    """
    (memory_budget,) = check_bytes(memory_budget=memory_budget)
    options = dict(windows=windows, dilation=dilation, memory_budget=memory_budget)
    return _call("attended_responses", (f, bank, channel, spatial), implementation, options).astype(f.dtype)


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
    """`alpha_C` and `alpha_X` of `response_attention`, for pictures, in float32 at least; None for a factor left out.

    Differentiable, but only in part in tiles: the backward pass stores much of what the forward pass had.
    """
    options = dict(windows=windows, dilation=dilation)
    return _call("attention_maps", (f, bank, channel, spatial), implementation, options)


def check_implementation(implementation: str | None) -> None:
    """Raises a `ValueError` unless this is None, a name of `Implementation` or of those of dense convolutions."""
    require_known(implementation, dict.fromkeys([*_IMPLEMENTATIONS, *get_args(Dense)]))


def _call(formula, arrays, implementation, options):
    require_known(implementation, _IMPLEMENTATIONS)
    dtype = sum_dtype(arrays[0])
    arrays = jax.tree.map(lambda x: x.astype(dtype), arrays)
    reasons = []
    if implementation is None and is_portable():
        implementation = "reference"
    for candidate in _TRIED_IN_ORDER if implementation is None else [implementation]:
        step = functools.partial(getattr(_IMPLEMENTATIONS[candidate], formula), **options)
        try:
            return by_device(step, *arrays)
        except NotImplementedError as reason:
            reasons.append(f"{candidate}: {reason}")
            if implementation is None and candidate != "reference":
                message = f"response attention is not computed by {reasons[-1]}; the next may take far more memory"
                warnings.warn(message, stacklevel=3)
    raise ValueError("no implementation takes these arguments; " + "; ".join(reasons))
