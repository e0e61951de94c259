"""Residual blocks of group convolutions, with attention in one of three places."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax.attention import OPERATORS
from attgconv_jax.filters import Sampling
from attgconv_jax.groups import Group
from attgconv_jax.nn import ATTENTIONS, GroupConv, SelectiveKernelGroupConv
from attgconv_jax.nn.nonlinearity import relu
from attgconv_jax.nn.norm import batch_norm


class Layer(NamedTuple):
    """One convolution of a residual branch; its channels are `width` times those of the stage."""

    width: int
    kernel_size: int


def place(attention: str | None) -> str | None:
    """Where blocks have an attention: in the "branch", on the "sum", as a "convolution"; None: nowhere.

    An operator that pairs positions is only where its paper has it, between stages: elsewhere maps are too large.
    """
    operator = OPERATORS.get(attention)
    if operator is None or (operator.pairwise and operator.site == "residual"):
        return None
    by_site = {"residual": "branch", "stage": "sum", "response": "convolution" if attention == "sk" else None}
    return by_site.get(operator.site)


class ResidualBlock(nnx.Module):
    """`relu(shortcut(f) + branch(f))`, with attention on what the branch adds, on the sum, or inside the branch.

    Of the convolutions in the branch the first 3x3 filter takes the stride; the stage has `width` channels.

    Source: He et al. 2015 (arXiv 1512.03385).
    """

    def __init__(
        self,
        in_features: int,
        width: int,
        branch: tuple[Layer, ...],
        group: Group,
        attention: str | None,
        attention_options: Mapping[str, Any],
        *,
        stride: int,
        exact: bool,
        antialiased: bool,
        oversampled: bool,
        masked: bool,
        sampling: Sampling,
        **shared,
    ):
        self.place, self.oversampled, self.masked = place(attention), oversampled, masked
        of_conv = dict(exact=exact, antialiased=antialiased, sampling=sampling, **shared)
        self.branch = nnx.List([])
        features, strided = in_features, [layer.kernel_size for layer in branch].index(3)
        for i, layer in enumerate(branch):
            sizes = features, width * layer.width, layer.kernel_size, group
            options = dict(stride=stride if i == strided else 1, padding=layer.kernel_size // 2, **of_conv)
            if self.place == "convolution" and i == strided:
                self.branch.append(SelectiveKernelGroupConv(*sizes, **options | attention_options))
            else:
                self.branch.append(ConvNorm(*sizes, **options))
            features = width * layer.width
        self.shortcut = self.attention = nnx.data(None)
        if stride > 1 or features != in_features:
            self.shortcut = ConvNorm(in_features, features, 1, group, stride=stride, **of_conv)
        if self.place in ("branch", "sum"):
            of_attention = {"sampling": sampling} if "sampling" in OPERATORS[attention].options else {}
            self.attention = ATTENTIONS[attention](features, group, **shared, **of_attention | attention_options)

    def __call__(self, f: Float[Array, "*batch x y h c_in"]) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Adds what the branch makes of `f`."""
        f = self._add(f, self._attend("branch", self._residual(f)))
        return self._attend("sum", f)

    def attention_maps(self, f: Float[Array, "*batch x y h c_in"]) -> Float[Array, "..."]:
        """The map of the block's attention."""
        if self.place == "convolution":
            for layer in self.branch:
                if isinstance(layer, SelectiveKernelGroupConv):
                    return layer.attention_maps(f)
                f = self._relu(layer(f))
        residual = self._residual(f)
        return self.attention.attention_maps(residual if self.place == "branch" else self._add(f, residual))

    def _residual(self, f):
        f = self.branch[0](f)
        for layer in list(self.branch)[1:]:
            f = layer(self._relu(f))
        return f

    def _relu(self, f):
        return relu(f, self.oversampled, self.masked)

    def _attend(self, place, f):
        return self.attention(f) if self.place == place else f

    def _add(self, f, residual):
        return self._relu(residual + (f if self.shortcut is None else self.shortcut(f)))


class ConvNorm(nnx.Module):
    """A group convolution and its batch norm; the arguments are those of `GroupConv`."""

    def __init__(self, in_features: int, out_features: int, kernel_size: int, group: Group, **options):
        self.conv = GroupConv(in_features, out_features, kernel_size, group, **options)
        of_norm = (options[name] for name in ("dtype", "param_dtype", "rngs"))
        self.norm = batch_norm(out_features, *of_norm, epsilon=1e-5)

    def __call__(self, f: Float[Array, "*batch x y h_in c_in"]) -> Float[Array, "*batch x_out y_out h c_out"]:
        """Convolves, then normalises."""
        return self.norm(self.conv(f))
