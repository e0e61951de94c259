"""What the networks are made of: convolutions with the attention of a network's description, norms, their order."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attentive import ResponseMaps
from attgconv_jax.groups import Group
from attgconv_jax.nn import AttentiveGroupConv, GroupConv, ResponseAttentiveGroupConv
from attgconv_jax.nn.initializers import FilterInitializer

NetworkAttention = Literal[
    "input", "input_channel", "input_spatial", "co", "response", "response_channel", "response_spatial"
]

_RESPONSE_FACTORS = {
    "response": dict(channel=True, spatial=True),
    "response_channel": dict(channel=True, spatial=False),
    "response_spatial": dict(channel=False, spatial=True),
}


def check_attention(attention: str | None) -> None:
    """Raises a `ValueError` unless `attention` is None or a name of `NetworkAttention`."""
    if attention is not None and attention not in get_args(NetworkAttention):
        names = ", ".join(get_args(NetworkAttention))
        raise ValueError(f"attention must be None or one of {names}, got {attention!r}")


def convolution(
    attention: NetworkAttention | None,
    in_features: int,
    out_features: int,
    kernel_size: int,
    group: Group,
    *,
    hidden_features: int | None = None,
    input_dilation: int = 1,
    attention_init: FilterInitializer = "paper_uniform",
    **options,
) -> nnx.Module:
    """A group convolution with attention as a network's description names it.

    Args:
      attention: None, or which attention, on the input or on the responses.
      in_features: input channels.
      out_features: output channels, per group element.
      kernel_size: of the convolution's square filter, in pixels.
      group: of the convolution.
      hidden_features: of the channel attention; None: half of `in_features`, at least 1.
      input_dilation: of the spatial filter of attention on the input, in pixels.
      attention_init: of the attention's filter.
      **options: arguments that every convolution takes.

    Returns:
      The module.

    Raises:
      ValueError: a size is out of range, or an unknown initialiser.
    """
    if attention is None:
        return GroupConv(in_features, out_features, kernel_size, group, **options)
    sizes = in_features, out_features, kernel_size, group
    if attention in _RESPONSE_FACTORS:
        factors = _RESPONSE_FACTORS[attention]
        return ResponseAttentiveGroupConv(
            *sizes, hidden_features=hidden_features, attention_init=attention_init, **factors, **options
        )
    of_attention = dict(kernel_init=attention_init)
    if attention != "co":
        of_attention |= dict(hidden_features=hidden_features, dilation=input_dilation)
    return AttentiveGroupConv(*sizes, attention=attention, attention_options=of_attention, **options)


def batch_norm(features: int, dtype, param_dtype, rngs: nnx.Rngs) -> nnx.BatchNorm:
    """Batch norm over batch, space and group, with the reference's constants."""
    norm = nnx.BatchNorm(features, momentum=0.9, epsilon=2e-5, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    # Flax keeps running statistics in float32 whatever the parameters are: too little for float64.
    for statistic in (norm.mean, norm.var):
        statistic.set_value(statistic[...].astype(jnp.promote_types(param_dtype, jnp.float32)))
    return norm


class Network(nnx.Module):
    """A row of convolutions and what follows each: what the networks of this package have in common.

    Subclasses say what comes before the first convolution (`_start`) and after each (`_follow`).

    Args:
      group: of the convolutions.
      attention: in every convolution.
      widths: channels of the image, then of every convolution's output.
      layers: of every convolution, those arguments of `convolution` that are its own, the filter's size among them.
      settings: further arguments of the network, as JSON can hold them.
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
        haar: bool,
        dtype,
        **shared,
    ):
        check_attention(attention)
        self.convolutions = nnx.List(
            convolution(
                attention,
                widths[i],
                widths[i + 1],
                group=group,
                lifting=i == 0,
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
            **settings,
            "haar": haar,
            "dtype": None if dtype is None else jnp.dtype(dtype).name,
        }
        # Pairs and no dict: a graph definition that holds a dict cannot be hashed, nor be a static argument.
        self._settings = tuple(settings.items())

    @property
    def settings(self) -> dict[str, Any]:
        """What this network was made with, as JSON can hold it; the rest shows in its parameters."""
        group = {"rotations": self.group.rotations, "reflections": self.group.reflections}
        return {"group": group, **dict(self._settings)}

    def __call__(self, image: Float[Array, "*batch x y 1 c"]) -> Float[Array, "*batch classes"]:
        """Logits of images.

        Args:
          image: standardised, of the size the network is made for.

        Returns:
          Logits, invariant under the group.

        Raises:
          ValueError: the image has another size.
        """
        f = self._start(image)
        for i, layer in enumerate(self.convolutions):
            f = self._follow(i, layer(f))
        return f

    def attention_maps(
        self, image: Float[Array, "*batch x y 1 c"]
    ) -> list[Float[Array, "*batch _x _y _h _c"]] | list[ResponseMaps]:
        """What the attention of each layer suppresses.

        Args:
          image: standardised, of the size the network is made for.

        Returns:
          A map a layer, in (0, 1): of attention on the input, on the group, the first on the image, the others on
          feature maps; of attention on responses, `ResponseMaps`, whose spatial maps are large: take few images.

        Raises:
          ValueError: the network has no attention, or the image has another size.
        """
        if self.settings["attention"] is None:
            raise ValueError("the network has no attention; make it with attention=...")
        maps, f = [], self._start(image)
        for i, layer in enumerate(self.convolutions):
            maps.append(layer.attention_maps(f))
            f = self._follow(i, layer(f))
        return maps


def check_image(image: Array, size: int) -> None:
    """Raises a `ValueError` unless `image` is `[..., size, size, 1, c]`."""
    if image.ndim < 4 or image.shape[-4:-1] != (size, size, 1):
        raise ValueError(f"image must be [..., {size}, {size}, 1, c], got shape {image.shape}")
