"""What the networks are made of: convolutions with the attention of a network's description, norms, their order."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attentive import ResponseMaps
from attgconv_jax.groups import Group
from attgconv_jax.initializers import FilterInitializer
from attgconv_jax.nn import (
    ATTENTIONS,
    AttentiveGroupConv,
    GroupConv,
    ResponseAttentiveGroupConv,
    SelectiveKernelGroupConv,
    SeparableGroupConv,
)
from attgconv_jax.nn.attentive import ATTENTIVE_PAPER, AttentionName
from attgconv_jax.separable import Form, check_form

ResponseAttention = Literal["response", "response_channel", "response_spatial", "sk"]
NetworkAttention = AttentionName | ResponseAttention

# Those whose cost grows with the number of positions times that of their neighbours.
_BY_POSITION = ("non_local", "self")
# Arguments of an attention's module that the network's description decides, and those of one that is a convolution.
_OF_NETWORK = {"self", "features", "group", "lifting", "haar", "dtype", "param_dtype", "rngs"}
_OF_CONVOLUTION = set(inspect.signature(GroupConv.__init__).parameters) - {"channel_groups"}
# Those whose module takes a reduction of the channels.
_REDUCING = ("se", "ge", "bam", "cbam", "gc", "coordinate", "non_local", "self")

_RESPONSE_FACTORS = {
    "response": dict(channel=True, spatial=True),
    "response_channel": dict(channel=True, spatial=False),
    "response_spatial": dict(channel=False, spatial=True),
}


def check_attention(attention: str | None) -> None:
    """Raises a `ValueError` unless `attention` is None or a name of `NetworkAttention`."""
    names = [*get_args(AttentionName), *get_args(ResponseAttention)]
    if attention is not None and attention not in names:
        raise ValueError(f"attention must be None or one of {', '.join(names)}, got {attention!r}")


def check_separable(separable: str | None, attention: str | None) -> None:
    """Raises a `ValueError` unless `separable` is None, or a form and this attention is none on responses."""
    if separable is None:
        return
    check_form("separable", separable)
    if attention in get_args(ResponseAttention):
        raise ValueError(
            f"separable must be None with attention on responses, which is of whole filters, got {separable!r} with "
            f"attention={attention!r}"
        )


def convolution(
    attention: NetworkAttention | None,
    in_features: int,
    out_features: int,
    kernel_size: int,
    group: Group,
    *,
    lifting: bool = False,
    separable: Form | None = None,
    large: bool = False,
    hidden_features: int | None = None,
    input_dilation: int = 1,
    attention_init: FilterInitializer = "paper_uniform",
    attention_options: Mapping[str, Any] | None = None,
    **options,
) -> nnx.Module:
    """A group convolution with attention as a network's description names it.

    Args:
      attention: None, or which attention, on the input or on the responses.
      in_features: input channels.
      out_features: output channels, per group element.
      kernel_size: of the convolution's square filter, in pixels.
      group: of the convolution.
      lifting: whether the input is an image. Operators on the input that are not the attentive paper's leave it alone.
      separable: None, or the form of a separable convolution, but where the input is an image; see
        `attgconv_jax.nn.SeparableGroupConv`. None with attention on responses.
      large: whether the map is too large for attention of every position to others, which then is left out.
      hidden_features: of the attention's networks, in the operators of other papers as near as a whole reduction comes;
        None: half of the channels, at least 1.
      input_dilation: of the spatial filter of the paper's attention on the input, in pixels.
      attention_init: of the filter of the paper's attentions.
      attention_options: further arguments of the attention's module.
      **options: arguments that every convolution takes.

    Returns:
      The module.

    Raises:
      ValueError: a size is out of range, an unknown form or initialiser, or a form with attention on responses.
    """
    check_separable(separable, attention)
    sizes = in_features, out_features, kernel_size, group
    further = dict(attention_options or {})
    if attention in _RESPONSE_FACTORS:
        factors = _RESPONSE_FACTORS[attention]
        of_attention = dict(hidden_features=hidden_features, attention_init=attention_init, **factors) | further
        return ResponseAttentiveGroupConv(*sizes, **of_attention, lifting=lifting, **options)
    if attention == "sk" and kernel_size % 2 == 1:
        of_attention = _reduction(out_features, hidden_features) | further
        return SelectiveKernelGroupConv(*sizes, **of_attention, lifting=lifting, **options)
    left_out = attention not in ATTENTIVE_PAPER and (lifting or (large and attention in _BY_POSITION))
    if attention in (None, "sk") or left_out:
        if lifting or separable is None:
            return GroupConv(*sizes, lifting=lifting, **options)
        return SeparableGroupConv(*sizes, form=separable, **options)
    of_attention = {}
    if attention in ATTENTIVE_PAPER:
        of_attention |= dict(kernel_init=attention_init)
    if attention in ("input", "input_channel", "input_spatial"):
        of_attention |= dict(hidden_features=hidden_features, dilation=input_dilation)
    if attention in _REDUCING:
        of_attention |= _reduction(in_features, hidden_features)
    of_attention |= further
    separable = None if lifting else separable
    options = dict(lifting=lifting, separable=separable, **options)
    return AttentiveGroupConv(*sizes, attention=attention, attention_options=of_attention, **options)


def attention_options(attention: NetworkAttention) -> dict[str, type]:
    """What `attention_options` may name, of an attention of a network's description.

    Args:
      attention: its name.

    Returns:
      By name `bool`, `int` (where None may stand too) or `str`.
    """
    responses = dict.fromkeys(_RESPONSE_FACTORS, ResponseAttentiveGroupConv)
    module = {**ATTENTIONS, **responses, "sk": SelectiveKernelGroupConv}[attention]
    # A partial's keywords, or the name, say which factors take part.
    fixed = {*getattr(module, "keywords", {}), *_RESPONSE_FACTORS.get(attention, {})}
    fixed |= _OF_NETWORK if attention in ATTENTIONS else _OF_CONVOLUTION
    parameters = inspect.signature(getattr(module, "func", module).__init__).parameters
    kinds = {bool: bool, int: int, int | None: int}
    return {name: kinds.get(parameter.annotation, str) for name, parameter in parameters.items() if name not in fixed}


def _reduction(features, hidden_features):
    hidden = max(1, features // 2) if hidden_features is None else hidden_features
    return {"reduction": max(1, features // hidden)}


class Network(nnx.Module):
    """A row of convolutions and what follows each: what the networks of this package have in common.

    Subclasses say what comes before the first convolution (`_start`) and after each (`_follow`).

    Args:
      group: of the convolutions.
      attention: in every convolution.
      widths: channels of the image, then of every convolution's output.
      layers: of every convolution, those arguments of `convolution` that are its own, the filter's size among them.
      settings: further arguments of the network, as JSON can hold them.
      attention_options: further arguments of every attention's module.
      haar: whether group convolutions carry the Haar weight.
      dtype: to compute in; None: the common type of input and parameters.
      **shared: arguments that all convolutions have in common.

    Raises:
      ValueError: unknown attention, or a number of channels is out of range.
    """

    def __init__(
        self,
        group: Group,
        attention: NetworkAttention | None,
        widths: Sequence[int],
        layers: Sequence[Mapping[str, Any]],
        settings: Mapping[str, Any],
        *,
        attention_options: Mapping[str, Any] | None,
        haar: bool,
        dtype,
        **shared,
    ):
        check_attention(attention)
        if attention is None and attention_options:
            raise ValueError(f"attention_options need an attention, got {dict(attention_options)} with attention=None")
        self.convolutions = nnx.List(
            convolution(
                attention,
                widths[i],
                widths[i + 1],
                group=group,
                lifting=i == 0,
                attention_options=attention_options,
                haar=haar,
                dtype=dtype,
                **layer,
                **shared,
            )
            for i, layer in enumerate(layers)
        )
        self.group = group
        settings = {
            "attention": attention,
            # Pairs and no dict: a graph definition that holds a dict cannot be hashed, nor be a static argument.
            "attention_options": tuple(sorted((attention_options or {}).items())),
            **settings,
            "haar": haar,
            "dtype": None if dtype is None else jnp.dtype(dtype).name,
        }
        self._settings = tuple(settings.items())

    @property
    def settings(self) -> dict[str, Any]:
        """What this network was made with, as JSON can hold it; the rest shows in its parameters."""
        group = {"rotations": self.group.rotations, "reflections": self.group.reflections}
        settings = dict(self._settings)
        return {"group": group, **settings, "attention_options": dict(settings["attention_options"])}

    @property
    def attending_layers(self) -> list[int]:
        """Which convolutions have attention, from 0."""
        return [i for i, layer in enumerate(self.convolutions) if not isinstance(layer, GroupConv | SeparableGroupConv)]

    def __call__(self, image: Float[Array, "*batch x y 1 c"]) -> Float[Array, "*batch classes"]:
        """Logits of images.

        Args:
          image: standardised, of the size the network is made for.

        Returns:
          Logits, invariant under the group.

        Raises:
          ValueError: the image has another size.
        """
        return self.feature_maps(image)[-1]

    def feature_maps(self, image: Float[Array, "*batch x y 1 c"]) -> list[Float[Array, "..."]]:
        """What enters every convolution, and the logits.

        Args:
          image: standardised, of the size the network is made for.

        Returns:
          The image as the first convolution sees it, the feature maps between the convolutions, the logits.

        Raises:
          ValueError: the image has another size.
        """
        maps = [self._start(image)]
        for i, layer in enumerate(self.convolutions):
            maps.append(self._follow(i, layer(maps[-1])))
        return maps

    def attention_maps(
        self, image: Float[Array, "*batch x y 1 c"]
    ) -> list[Float[Array, "*maps _x _y _h _c"] | ResponseMaps | None]:
        """The attention of each layer.

        In training mode running statistics move as in any call, those of attention twice.

        Args:
          image: standardised, of the size the network is made for.

        Returns:
          A map a layer: of attention on the input, on the group, the first on the image, the others on feature maps; of
          attention on responses, `ResponseMaps`, whose spatial maps are large: take few images; None where a layer has
          no attention.

        Raises:
          ValueError: the network has no attention, or the image has another size.
        """
        if self.settings["attention"] is None:
            raise ValueError("the network has no attention; make it with attention=...")
        attending = self.attending_layers
        inputs = zip(self.convolutions, self.feature_maps(image), strict=False)
        return [layer.attention_maps(f) if i in attending else None for i, (layer, f) in enumerate(inputs)]


def check_image(image: Array, size: int) -> None:
    """Raises a `ValueError` unless `image` is `[..., size, size, 1, c]`."""
    if image.ndim < 4 or image.shape[-4:-1] != (size, size, 1):
        raise ValueError(f"image must be [..., {size}, {size}, 1, c], got shape {image.shape}")
