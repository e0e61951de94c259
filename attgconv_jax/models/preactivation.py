"""Residual networks of three stages, whose blocks have norm and relu before every convolution."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from flax import nnx
from jaxtyping import Array

from attgconv_jax.attention import OPERATORS
from attgconv_jax.checks import check_boolean, check_choice, check_positive
from attgconv_jax.convolution import max_pool, mean_pool, smooth_max_pool
from attgconv_jax.filters import Sampling
from attgconv_jax.groups import Group
from attgconv_jax.models.base import Network, check_image
from attgconv_jax.models.layers import check_attention, check_implementation, convolution
from attgconv_jax.models.residual import place
from attgconv_jax.nn import ATTENTIONS, Dropout
from attgconv_jax.nn.nonlinearity import relu
from attgconv_jax.nn.norm import batch_norm

Downsampling = Literal["pool", "stride"]

SIZE = 32
STAGES = 3


class PreActivationBlock(nnx.Module):
    """`shortcut(f) + conv2(dropout(relu(norm2(conv1(relu(norm1(f)))))))`.

    Where the map is halved, a maximum over 2x2 pixels follows `conv1` and the shortcut, or both have a stride of two.
    Antialiased, a smooth maximum follows `relu(norm2(.))`, since it is one of activations, and a mean the shortcut.

    Args:
      conv: makes a convolution of channels in, channels out and size of the filter.
      norm: makes a norm of a number of channels.
      attention: module on what the branch adds, or on the sum (`place`); None: nowhere.
      halves: whether the map is halved.
      projects: whether the shortcut is a 1x1 convolution; otherwise it is `f`.
      activated: whether that convolution sees `relu(norm1(f))`; otherwise it sees `f`.
    """

    def __init__(
        self,
        in_features: int,
        features: int,
        group: Group,
        conv: Callable[..., nnx.Module],
        norm: Callable[[int], nnx.Module],
        attention: nnx.Module | None,
        *,
        place: str | None,
        halves: bool,
        projects: bool,
        activated: bool,
        downsampling: Downsampling,
        dropout: nnx.Module | None,
        antialiased: bool,
        oversampled: bool,
        masked: bool,
    ):
        stride = 2 if halves and downsampling == "stride" else 1
        self.norms = nnx.List([norm(in_features), norm(features)])
        self.convolutions = nnx.List([conv(in_features, features, 3, stride=stride), conv(features, features, 3)])
        self.shortcut = conv(in_features, features, 1, stride=stride) if projects else nnx.data(None)
        self.attention, self.dropout = (nnx.data(None) if part is None else part for part in (attention, dropout))
        self.group, self.place, self.activated = group, place, activated
        self.pools = halves and downsampling == "pool"
        self.antialiased, self.oversampled, self.masked = antialiased, oversampled, masked

    def _features(self, f: Array) -> Iterator[Array]:
        """Yields what enters every convolution and the attention, then what leaves the block."""
        active = self._relu(self.norms[0](f))
        skipped = f
        if self.shortcut is not None:
            skipped = active if self.activated else f
            yield skipped
            skipped = self._halved(self.shortcut(skipped))
        yield active
        f = self.convolutions[0](active)
        smooth = self.pools and self.antialiased
        f = self._relu(self.norms[1](f if smooth else self._halved(f)))
        f = smooth_max_pool(f, self.group) if smooth else f
        if self.dropout is not None:
            f = self.dropout(f)
        yield f
        f = self.convolutions[1](f)
        if self.place == "branch":
            yield f
            f = self.attention(f)
        f = skipped + f
        if self.place == "sum":
            yield f
            f = self.attention(f)
        yield f

    def _attentions(self) -> list[Callable[[Array], Any] | None]:
        """A function of everything that `_features` yields, but of the last."""
        layers = [*([] if self.shortcut is None else [self.shortcut]), *self.convolutions]
        return [getattr(layer, "attention_maps", None) for layer in layers] + (
            [] if self.attention is None else [self.attention.attention_maps]
        )

    def _relu(self, f):
        return relu(f, self.oversampled, self.masked)

    def _halved(self, f):
        if not self.pools:
            return f
        return mean_pool(f, self.group, antialiased=True) if self.antialiased else max_pool(f, self.group)


class PreActivationNetwork(Network):
    """A lifting 3x3 convolution, three stages of blocks, norm and relu; subclasses classify what is left.

    Attention on the input or on the responses of a convolution is in every convolution; that of other papers is on what
    every block adds, or, where it is one of stages, on the output of the first two stages, pairwise ones of the second.

    Args:
      features: channels of the lifting convolution, then of the stages.
      blocks: how many each stage has.
      activated: see `PreActivationBlock`.
      hidden_features: of the paper's attention in a convolution, a function of its channels; in the first as many as
        channels.
      epsilon: of the norms.
      dropout_rate: of the blocks.
      settings: further arguments of the network, as JSON can hold them.
      **shared: arguments that all convolutions have in common.
    """

    def __init__(
        self,
        group: Group,
        attention: str | None,
        features: Sequence[int],
        blocks: int,
        settings: Mapping[str, Any],
        *,
        in_features: int,
        activated: bool,
        hidden_features: Callable[[int], int],
        epsilon: float,
        dropout_rate: float,
        downsampling: Downsampling,
        exact: bool,
        attention_options: Mapping[str, Any] | None,
        sampling: Sampling,
        antialiased: bool,
        oversampled: bool,
        masked: bool,
        implementation: str | None,
        precision: str | None,
        dtype,
        param_dtype,
        rngs: nnx.Rngs,
        **shared,
    ):
        _check_attention_of_blocks(attention)
        check_attention(attention, attention_options)
        check_implementation(implementation, attention)
        check_boolean(antialiased=antialiased, oversampled=oversampled, masked=masked)
        (exact,) = check_boolean(exact=exact)
        _check_downsampling(downsampling, group, exact)
        settings = {**settings, "in_features": in_features, "downsampling": downsampling, "exact": exact}
        switches = dict(antialiased=antialiased, oversampled=oversampled, masked=masked)
        further = dict(attention_options=attention_options, sampling=sampling, dtype=dtype)
        computing = dict(implementation=implementation, precision=precision)
        super().__init__(group, attention, **settings, **switches, **further, **computing)
        arrays = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        of_conv = dict(exact=exact, antialiased=self.antialiased, sampling=sampling, **arrays, **shared)
        inside = None if attention is None or place(attention) in ("branch", "sum") else attention

        def conv(c_in, c_out, kernel_size, *, lifting=False, **options):
            attends = inside if inside != "sk" or kernel_size > 1 else None
            if attends is not None:
                hidden = c_in if lifting else hidden_features(c_in)
                options |= dict(attention_options=attention_options, hidden_features=hidden, own_reduction=True)
            options |= dict(lifting=lifting, padding=kernel_size // 2)
            return convolution(attends, c_in, c_out, kernel_size, group, **options, **of_conv)

        def norm(channels):
            return batch_norm(channels, **arrays, epsilon=epsilon)

        self.lifting = conv(in_features, features[0], 3, lifting=True)
        self.stages = nnx.List([])
        for stage, (c_in, c_out) in enumerate(itertools.pairwise(features)):
            self.stages.append(nnx.List([]))
            for block in range(blocks):
                where = place(attention) if _has_attention(attention, stage, block == blocks - 1) else None
                of_attention = {"sampling": sampling} if where and "sampling" in OPERATORS[attention].options else {}
                of_attention |= attention_options or {}
                halves = stage > 0 and block == 0
                self.stages[stage].append(
                    PreActivationBlock(
                        c_out if block else c_in,
                        c_out,
                        group,
                        conv,
                        norm,
                        ATTENTIONS[attention](c_out, group, **arrays, **of_attention) if where else None,
                        place=where,
                        halves=halves,
                        projects=block == 0 and (halves or c_in != c_out),
                        activated=activated,
                        downsampling=downsampling,
                        dropout=Dropout(dropout_rate, rngs=rngs) if dropout_rate else None,
                        **{name: getattr(self, name) for name in switches},
                    )
                )
        self.norm = norm(features[-1])
        self.classifier = self._classifier(features[-1], settings["classes"], conv, arrays)
        self.in_features = in_features

    def _features(self, image):
        check_image(image, SIZE, self.in_features)
        image = self._masked(image)
        yield image
        f = self.lifting(image)
        for block in self._blocks():
            *inside, f = self._block(lambda block, f: list(block._features(f)), block, f)
            yield from inside
        yield from self._classify(relu(self.norm(f), self.oversampled, self.masked))

    def _attentions(self):
        of_blocks = [attention for block in self._blocks() for attention in block._attentions()]
        first, last = (getattr(layer, "attention_maps", None) for layer in (self.lifting, self.classifier))
        return [first, *of_blocks, last]

    def _blocks(self):
        return [block for stage in self.stages for block in stage]

    def _classifier(self, features, classes, conv, arrays) -> nnx.Module:
        """The last layer."""
        raise NotImplementedError

    def _classify(self, f: Array) -> Iterator[Array]:
        """Yields what enters the last layer, then the logits."""
        raise NotImplementedError


def blocks_of(depth: int, further: int) -> int:
    """Blocks per stage of a network with `further` layers beside them; each has two layers."""
    (depth,) = check_positive(depth=depth)
    blocks, rest = divmod(depth - further, 2 * STAGES)
    if rest or blocks < 1:
        examples = ", ".join(str(2 * STAGES * n + further) for n in (1, 2, 3))
        raise ValueError(f"depth must be {2 * STAGES} n + {further}, such as {examples}, got {depth}")
    return blocks


def _has_attention(attention, stage, last):
    """Whether a block has attention outside of its convolutions."""
    if attention is None or OPERATORS[attention].site != "stage":
        return attention is not None and place(attention) == "branch"
    return last and stage in ((1,) if OPERATORS[attention].pairwise else (0, 1))


def _check_attention_of_blocks(attention):
    known = [name for name, operator in OPERATORS.items() if place(name) or operator.site in ("input", "response")]
    if attention is not None and attention not in known:
        raise ValueError(f"attention must be None or one of {', '.join(known)}, got {attention!r}")


def _check_downsampling(downsampling, group, exact):
    check_choice("downsampling", downsampling, get_args(Downsampling))
    if downsampling == "stride" and exact and any(group.reversed_axes):
        raise ValueError(
            f'downsampling must be "pool" on {group}, as strides of 2 sample {SIZE} pixels off centre, got "stride"; '
            "or pass exact=False and give up exact equivariance"
        )
