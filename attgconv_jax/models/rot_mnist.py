"""The rot-MNIST network: one description for every group and every attention."""

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attentive import ResponseMaps
from attgconv_jax.convolution import max_pool, project_max
from attgconv_jax.groups import Group
from attgconv_jax.nn import AttentiveGroupConv, Dropout, GroupConv, ResponseAttentiveGroupConv
from attgconv_jax.nn.checks import positive
from attgconv_jax.nn.initializers import FilterInitializer


class Layer(NamedTuple):
    """One convolution and what follows it."""

    kernel_size: int = 3
    attention_dilation: int = 1
    pool: bool = False
    dropout: bool = True


# Spatial sizes after each layer: 28 -> 26, 24 pooled to 12, 10, 8, 6, 4, 1. All are symmetric grids.
LAYERS = (
    Layer(attention_dilation=4),
    Layer(pool=True, dropout=False),
    Layer(),
    Layer(),
    Layer(),
    Layer(),
)
CLASSIFIER = Layer(kernel_size=4)

SIZE = 28

NetworkAttention = Literal[
    "input", "input_channel", "input_spatial", "co", "response", "response_channel", "response_spatial"
]

_RESPONSE_FACTORS = {
    "response": dict(channel=True, spatial=True),
    "response_channel": dict(channel=True, spatial=False),
    "response_spatial": dict(channel=False, spatial=True),
}


class RotMNISTNet(nnx.Module):
    """The seven-layer network of the attentive paper's rot-MNIST experiments.

    Six times convolution, batch norm and relu, with dropout (in the second layer a maximum over 2x2 pixels instead);
    then a convolution over the 4x4 pixels left, and the maximum over the group.

    | `group` | `attention` | parameters | the paper's name |
    |---|---|---|---|
    | `trivial()` | None | 21,620 | Z2CNN |
    | `cyclic(4)` | None | 24,610 | p4-CNN |
    | `cyclic(4)` | "input" | 29,462 | alpha_F-p4-CNN |
    | `cyclic(4)` | "co" | 24,851 | co-attentive (RomHog) p4-CNN |
    | `cyclic(4)` | "response" | 73,130 | alpha-p4-CNN |
    | `cyclic(4)` | "response_channel" | 48,630 | alpha_CH-p4-CNN |
    | `cyclic(4)` | "response_spatial" | 49,110 | alpha_SP-p4-CNN |

    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.models import RotMNISTNet
    >>> network = RotMNISTNet(cyclic(4), attention="input", rngs=nnx.Rngs(0))
    >>> network(jnp.ones([8, 28, 28, 1, 1], jnp.float32)).shape
    (8, 10)

    Args:
      group: of the convolutions.
      attention: in every convolution: None; on its input, "input" (channel and spatial), "input_channel",
        "input_spatial" or "co"; on its responses, "response" (channel and spatial), "response_channel" or
        "response_spatial".
      features: channels per group element; None: 20 on the trivial group, else 10.
      in_features: channels of the image.
      classes: number of logits.
      dropout_rate: after every layer but the second and the last.
      haar: whether group convolutions carry the Haar weight, as in the published networks.
      kernel_init: of all filters; None: as published, "paper_normal" on the trivial group, else "paper_uniform".
      dtype: to compute in; None: the common type of input and parameters.
      param_dtype: of the parameters.
      rngs: its "params" and "dropout" streams are used.

    Raises:
      ValueError: unknown attention, or a size is out of range.

    Source: Romero et al. 2020, section 5.1; Cohen and Welling 2016, section 8.1.
    """

    def __init__(
        self,
        group: Group,
        attention: NetworkAttention | None = None,
        *,
        features: int | None = None,
        in_features: int = 1,
        classes: int = 10,
        dropout_rate: float = 0.3,
        haar: bool = True,
        kernel_init: FilterInitializer | None = None,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
    ):
        if features is None:
            features = 20 if group.order == 1 else 10
        if kernel_init is None:
            kernel_init = "paper_normal" if group.order == 1 else "paper_uniform"
        positive(features=features, in_features=in_features, classes=classes)
        if attention is not None and attention not in get_args(NetworkAttention):
            names = ", ".join(get_args(NetworkAttention))
            raise ValueError(f"attention must be None or one of {names}, got {attention!r}")

        def convolution(layer, c_in, c_out, lifting):
            shared = dict(
                lifting=lifting, haar=haar, kernel_init=kernel_init, dtype=dtype, param_dtype=param_dtype, rngs=rngs
            )
            if attention is None:
                return GroupConv(c_in, c_out, layer.kernel_size, group, **shared)
            if attention in _RESPONSE_FACTORS:
                factors = _RESPONSE_FACTORS[attention]
                return ResponseAttentiveGroupConv(c_in, c_out, layer.kernel_size, group, **factors, **shared)
            options = {} if attention == "co" else {"dilation": layer.attention_dilation}
            return AttentiveGroupConv(
                c_in, c_out, layer.kernel_size, group, attention=attention, attention_options=options, **shared
            )

        convolutions = [convolution(LAYERS[0], in_features, features, lifting=True)]
        convolutions += [convolution(layer, features, features, lifting=False) for layer in LAYERS[1:]]
        self.convolutions = nnx.List([*convolutions, convolution(CLASSIFIER, features, classes, lifting=False)])
        self.norms = nnx.List([_batch_norm(features, dtype, param_dtype, rngs) for _ in LAYERS])
        self.dropouts = nnx.List([Dropout(dropout_rate if layer.dropout else 0.0, rngs=rngs) for layer in LAYERS])
        self.group = group
        # Pairs and no dict: a graph definition that holds a dict cannot be hashed, nor be a static argument.
        self._settings = (
            ("attention", attention),
            ("features", features),
            ("in_features", in_features),
            ("classes", classes),
            ("dropout_rate", float(dropout_rate)),
            ("haar", haar),
            ("dtype", None if dtype is None else jnp.dtype(dtype).name),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What this network was made with, as JSON can hold it; the rest shows in its parameters."""
        group = {"rotations": self.group.rotations, "reflections": self.group.reflections}
        return {"group": group, **dict(self._settings)}

    def __call__(self, image: Float[Array, "*batch x y 1 c"]) -> Float[Array, "*batch classes"]:
        """Logits of images of 28x28 pixels.

        Args:
          image: standardised.

        Returns:
          Logits, invariant under the group.

        Raises:
          ValueError: the image has another size.
        """
        _check_image(image)
        f = image
        for i in range(len(LAYERS)):
            f = self._block(i, f)
        return project_max(self.convolutions[-1](f))[..., 0, 0, 0, :]

    def attention_maps(
        self, image: Float[Array, "*batch x y 1 c"]
    ) -> list[Float[Array, "*batch _x _y _h _c"]] | list[ResponseMaps]:
        """What the attention of each of the seven layers suppresses.

        Args:
          image: standardised.

        Returns:
          A map a layer, in (0, 1): of attention on the input, on the group, the first on the image, the others on
          feature maps; of attention on responses, `ResponseMaps`, whose spatial maps are large: take few images.

        Raises:
          ValueError: the network has no attention, or the image has another size.
        """
        if self.settings["attention"] is None:
            raise ValueError("the network has no attention; make it with attention=...")
        _check_image(image)
        maps, f = [], image
        for i in range(len(LAYERS)):
            maps.append(self.convolutions[i].attention_maps(f))
            f = self._block(i, f)
        return [*maps, self.convolutions[-1].attention_maps(f)]

    def _block(self, i, f):
        f = jax.nn.relu(self.norms[i](self.convolutions[i](f)))
        if LAYERS[i].pool:
            f = max_pool(f, self.group)
        return self.dropouts[i](f)


def _check_image(image):
    if image.ndim < 4 or image.shape[-4:-1] != (SIZE, SIZE, 1):
        raise ValueError(f"image must be [..., {SIZE}, {SIZE}, 1, c], got shape {image.shape}")


def _batch_norm(features, dtype, param_dtype, rngs):
    norm = nnx.BatchNorm(features, momentum=0.9, epsilon=2e-5, dtype=dtype, param_dtype=param_dtype, rngs=rngs)
    # Flax keeps running statistics in float32 whatever the parameters are: too little for float64.
    for statistic in (norm.mean, norm.var):
        statistic.set_value(statistic[...].astype(jnp.promote_types(param_dtype, jnp.float32)))
    return norm
