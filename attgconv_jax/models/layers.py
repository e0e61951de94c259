"""Convolutions with the attention of a network's description, and networks that are a row of them."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attention import OPERATORS, Operator
from attgconv_jax.attention.operator import unknown_option
from attgconv_jax.checks import check_boolean, check_bytes, check_choice
from attgconv_jax.convolution import max_pool, smooth_max_pool
from attgconv_jax.filters import Sampling
from attgconv_jax.groups import Group
from attgconv_jax.initializers import FilterInitializer, Initializer, he_normal, paper_uniform, scaled
from attgconv_jax.kernels.response import Implementation
from attgconv_jax.kernels.settings import Convolution
from attgconv_jax.models.base import Network
from attgconv_jax.nn import (
    AttentiveGroupConv,
    GroupConv,
    ResponseAttentiveGroupConv,
    SelectiveKernelGroupConv,
    SeparableGroupConv,
)
from attgconv_jax.separable import Kind

# Arguments of an attention's module that the network's description decides, and those of one that is a convolution.
_OF_NETWORK = {"haar", "sampling"}
_OF_CONVOLUTION = inspect.signature(GroupConv.__init__).parameters.keys() - {"channel_groups", "implementation"}


HIDDEN_FEATURES = 2
"""Of the attentive paper's channel attention in its residual and dense networks, whatever the channels."""


def reference_initializer(group: Group) -> Initializer:
    """Of all filters of these networks, as published: He's on the trivial group, else `sqrt(2)` times the paper's."""
    return he_normal if group.order == 1 else scaled(math.sqrt(2), paper_uniform)


def check_attention(attention: str | None, options: Mapping[str, Any] | None) -> None:
    """Raises a `ValueError` unless `attention` is None or a name of `OPERATORS`, and takes these options."""
    if attention is None:
        return
    if attention not in OPERATORS:
        raise ValueError(f"attention must be None or one of {', '.join(OPERATORS)}, got {attention!r}")
    if OPERATORS[attention].site != "response":
        OPERATORS[attention].check_options(options or {})
        return
    known = attention_options(attention)
    for name in (options or {}).keys() - known.keys() - {"sampling"}:
        raise unknown_option(attention, name, known)
    if "memory_budget" in (options or {}):
        check_bytes(memory_budget=options["memory_budget"])


def check_implementation(implementation: str | None, attention: str | None) -> None:
    """Raises a `ValueError` that says where those names belong that attention on responses alone has."""
    on_responses = attention in OPERATORS and OPERATORS[attention].module == ResponseAttentiveGroupConv.__name__
    known = get_args(Convolution)
    if on_responses and implementation in get_args(Implementation) and implementation not in known:
        names = ", ".join(f'"{name}"' for name in known)
        raise ValueError(
            f"implementation must be None or one of {names}, got {implementation!r}; the attention has one of this "
            f'name: attention_options=dict(implementation="{implementation}")'
        )


def check_kind(kind: str, attention: str | None) -> None:
    """Raises a `ValueError` unless filters may be of this kind beside this attention."""
    check_choice("kind", kind, get_args(Kind))
    if kind != "nonseparable" and attention in OPERATORS and OPERATORS[attention].site == "response":
        raise ValueError(
            f'kind must be "nonseparable" with attention on responses, which is of whole filters, got {kind!r} with '
            f"attention={attention!r}"
        )


def convolution(
    attention: str | None,
    in_features: int,
    out_features: int,
    kernel_size: int,
    group: Group,
    *,
    lifting: bool = False,
    kind: Kind = "nonseparable",
    large: bool = False,
    hidden_features: int | None = None,
    own_reduction: bool = False,
    input_dilation: int = 1,
    input_kernel_size: int | None = None,
    attention_init: FilterInitializer = "paper_uniform",
    attention_options: Mapping[str, Any] | None = None,
    **options,
) -> nnx.Module:
    """A group convolution with attention as a network's description names it.

    Options:
      lifting: whether the input is an image. Operators on the input that are not the attentive paper's leave it alone.
      kind: of the filter, but where the input is an image; see `attgconv_jax.nn.SeparableGroupConv`.
      large: whether the map is too large for attention of every position to others, which then is left out.
      hidden_features: of the attention's networks, in the operators of other papers as near as a whole reduction comes;
        None: half of the channels, at least 1.
      own_reduction: whether the operators of other papers have their default of that instead.
      input_dilation: of the spatial filter of the paper's attention on the input, in pixels.
      input_kernel_size: of that filter; None: 7.
      attention_init: of the filter of the paper's attentions.
      **options: arguments that every convolution takes, `sampling` among them.
    """
    sizes = in_features, out_features, kernel_size, group
    operator, further = OPERATORS.get(attention), dict(attention_options or {})
    if operator is None or _is_left_out(operator, kernel_size, lifting, large):
        if lifting or kind == "nonseparable":
            return GroupConv(*sizes, lifting=lifting, **options)
        return SeparableGroupConv(*sizes, kind=kind, **options)
    if operator.name == "sk":
        further = ({} if own_reduction else _reduction(out_features, hidden_features, further)) | further
        return SelectiveKernelGroupConv(*sizes, lifting=lifting, **options | further)
    if operator.site == "response":
        of_attention = dict(hidden_features=hidden_features, attention_init=attention_init, **operator.settings)
        return ResponseAttentiveGroupConv(*sizes, lifting=lifting, **options | of_attention | further)
    of_attention = {} if own_reduction else _reduction(in_features, hidden_features, further)
    if operator.site == "input":
        of_attention = dict(kernel_init=attention_init, hidden_features=hidden_features, dilation=input_dilation)
        of_attention |= {} if input_kernel_size is None else dict(kernel_size=input_kernel_size)
    of_attention = {name: value for name, value in of_attention.items() if name in operator.options} | further
    kind = "nonseparable" if lifting else kind
    options = dict(lifting=lifting, kind=kind, **options)
    return AttentiveGroupConv(*sizes, attention=attention, attention_options=of_attention, **options)


def pool_activations(f: Float[Array, "*batch x y h c"], group: Group, *, antialiased: bool, **options) -> Array:
    """`max_pool` of what a relu has left, or, so as not to alias, `smooth_max_pool`, with arguments of both."""
    return smooth_max_pool(f, group, **options) if antialiased else max_pool(f, group, **options)


def attention_options(attention: str) -> dict[str, type]:
    """By name what `attention_options` may be: `bool`, `int` (where None may stand too), `float` or `str`."""
    if OPERATORS[attention].site == "response":
        module = SelectiveKernelGroupConv if attention == "sk" else ResponseAttentiveGroupConv
        parameters = inspect.signature(module.__init__).parameters
        fixed = _OF_CONVOLUTION | OPERATORS[attention].settings.keys()
    else:
        parameters, fixed = OPERATORS[attention].options, _OF_NETWORK
    kinds = {bool: bool, int: int, int | None: int, float: float, float | None: float}
    return {name: kinds.get(parameter.annotation, str) for name, parameter in parameters.items() if name not in fixed}


def _is_left_out(operator: Operator, kernel_size: int, lifting: bool, large: bool) -> bool:
    """Whether a convolution is without the network's attention."""
    if operator.site in ("input", "response"):
        return operator.name == "sk" and kernel_size % 2 == 0
    return lifting or (large and operator.pairwise)


def _reduction(features, hidden_features, given):
    """The reduction of an attention whose hidden channels are not given."""
    # Gather-Excite may be without the network that has them.
    if given.get("hidden_features") is not None or not given.get("excite", True):
        return {}
    hidden = max(1, features // 2) if hidden_features is None else hidden_features
    return {"reduction": max(1, features // hidden)}


class ConvolutionalNetwork(Network):
    """A row of convolutions, and what follows each.

    Subclasses say what comes before the first convolution (`_start`) and after each (`_follow`).

    Args:
      widths: channels of the image, then of every convolution's output.
      layers: of every convolution, those arguments of `convolution` that are its own, the filter's size among them.
      settings: further arguments of the network, as JSON can hold them.
      haar: whether group convolutions carry the Haar weight, as in the published networks.
      **shared: arguments that all convolutions have in common.
    """

    def __init__(
        self,
        group: Group,
        attention: str | None,
        widths: Sequence[int],
        layers: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
        *,
        attention_options: Mapping[str, Any] | None,
        sampling: Sampling,
        haar: bool,
        antialiased: bool | None = None,
        oversampled: bool | None = None,
        masked: bool | None = None,
        implementation: str | None = None,
        precision: str | None = None,
        dtype,
        **shared,
    ):
        check_attention(attention, attention_options)
        check_implementation(implementation, attention)
        check_boolean(haar=haar)
        self.in_features = widths[0]
        of_attention = dict(attention_options=attention_options, sampling=sampling, dtype=dtype)
        settings = {"in_features": widths[0], "classes": widths[-1], **settings, "haar": bool(haar)}
        switches = dict(antialiased=antialiased, oversampled=oversampled, masked=masked)
        computing = dict(implementation=implementation, precision=precision)
        super().__init__(group, attention, **settings, **switches, **computing, **of_attention)
        shared |= dict(group=group, haar=haar, antialiased=bool(antialiased), **of_attention)
        self.convolutions = nnx.List(
            convolution(attention, *widths[i : i + 2], lifting=i == 0, **layer, **shared)
            for i, layer in enumerate(layers)
        )

    def _features(self, image):
        f = self._start(image)
        yield f
        for i in range(len(self.convolutions)):
            f = self._block(ConvolutionalNetwork._layer, self, f, i=i)
            yield f

    def _layer(self, f, *, i):
        return self._follow(i, self.convolutions[i](f))

    def _attentions(self):
        return [getattr(layer, "attention_maps", None) for layer in self.convolutions]

    def _start(self, image: Array) -> Array:
        """What enters the first convolution."""
        raise NotImplementedError

    def _follow(self, i: int, f: Array) -> Array:
        """What follows convolution `i`."""
        raise NotImplementedError
