"""What a network is made of on the command line: group, attention, kernels, widths."""

import dataclasses
from typing import Literal, get_args

from attgconv_jax import Group
from attgconv_jax.lie import LieGroup
from attgconv_jax.lie.kernels import least_size
from attgconv_jax.models.layers import ResponseAttention, attention_options
from attgconv_jax.nn.attentive import AttentionName
from attgconv_jax.nn.kernel_networks import KernelNetworkName, check_network, network_options
from attgconv_jax.separable import Form
from experiments.run.checks import check, check_choice, parse_options
from experiments.run.groups import parse_group, parse_lie_group

Attention = Literal["none"] | AttentionName | ResponseAttention
DType = Literal["float32", "bfloat16", "float64"]
LieKind = Literal[
    "nonseparable", "gseparable", "separable", "dseparable", "dgseparable", "separable+2d", "gseparable+2d"
]
Kind = Literal[Form, LieKind]

MAX_SCALE = 1.74
"""Of the separable paper's groups."""
LIE_KERNEL_SIZE = 7
"""Of the residual network on Lie groups, in pixels."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The rot-MNIST network on finite groups, the separable paper's residual network on Lie groups."""

    group: str = "p4"
    """Of the convolutions: z2, p4, p4m, or any other as C8 (8 rotations) or D2 (2 rotations and the reflections). Lie
    groups: SE2-8 (8 rotations sampled), R2xR-3 (3 scales), Sim2-16x3 (both)."""

    attention: Attention = "input"
    """In every convolution: none, on its input (input, co, se, sge, cbam and others), or on its responses (response,
    response_channel, response_spatial, sk). Lie groups: input, input_channel, input_spatial and co on the input of
    every convolution of feature maps, the others on what a residual branch adds, none on responses."""

    dropout_rate: float = 0.1
    """After every layer but the second and the last, on Lie groups once, before the logits. The papers have 0.3; the
    few steps of `digits` bear less."""

    dtype: DType = "float32"
    """To compute in. bfloat16 keeps parameters and statistics in float32; float64 has everything in float64."""

    attention_options: tuple[str, ...] = ()
    """Further arguments of the attention's module, as NAME=VALUE: groups=5, over_group=True. Default: the module's."""

    features: tuple[int, ...] = ()
    """Channels per group element. Finite groups: of all layers or of each of the six; default 20 on z2, else 10. Lie
    groups: of the lifting and of one or two blocks; default 32 32 64."""

    kind: Kind | None = None
    """Of filters. Finite groups: g or gc, separable ones; default: ordinary. Lie groups: the others; default:
    separable."""

    kernel_network: KernelNetworkName = "siren"
    """Of Lie groups: which functions kernels are."""

    kernel_options: tuple[str, ...] = ()
    """Of Lie groups: further arguments of the kernel networks, as NAME=VALUE: first_frequency=7. Default: theirs."""

    max_scale: float = MAX_SCALE
    """The largest scale sampled, of Lie groups that scale; the smallest is 1."""

    random_grids: bool = False
    """Whether training samples a Lie group anew in every call."""

    def __post_init__(self):
        group = self.parsed_group()
        check_choice("model.attention", self.attention, Attention)
        check_choice("model.dtype", self.dtype, DType)
        lie = isinstance(group, LieGroup)
        counts, expected = ((0, 2, 3), "two numbers or three") if lie else ((0, 1, 6), "one number or six")
        good = len(self.features) in counts and all(type(width) is int and width >= 1 for width in self.features)
        name = f"model.features of {self.group}" if lie else "model.features"
        check(name, self.features, f"{expected}, of at least 1", good)
        self.parsed_attention_options()
        if not 0 <= self.dropout_rate < 1:
            raise ValueError(f"model.dropout_rate must be in [0, 1), got {self.dropout_rate}")
        if lie and self.attention in get_args(ResponseAttention):
            names = ", ".join(get_args(AttentionName))
            raise ValueError(
                f"model.attention {self.attention} acts on responses, of finite groups alone; on {self.group} take one "
                f"of {names}"
            )
        if self.kind is not None:
            check_choice(f"model.kind on {self.group}", self.kind, LieKind if lie else Form)
        if self.kind in get_args(Form) and self.attention in get_args(ResponseAttention):
            raise ValueError(f"model.kind {self.kind} goes with attention on the input, got {self.attention}")
        if self.random_grids and not lie:
            raise ValueError(f"model.random_grids are of Lie groups such as SE2-8, and {self.group} is none")
        check_choice("model.kernel_network", self.kernel_network, KernelNetworkName)
        if lie:
            self.parsed_kernel_options()
        elif self.kernel_network != "siren" or self.kernel_options:
            raise ValueError(
                f"model.kernel_network and its options are of Lie groups such as SE2-8, and {self.group} is none"
            )
        self._check_scales(group)

    def _check_scales(self, group):
        scales = getattr(group, "scales", None)
        if scales is None and self.max_scale != MAX_SCALE:
            raise ValueError(
                f"model.max_scale is of groups that scale, as R2xR-3 and Sim2-16x3; {self.group} has no scales"
            )
        if scales is not None and least_size(group) > LIE_KERNEL_SIZE:
            raise ValueError(
                f"model.max_scale must be at most {(LIE_KERNEL_SIZE - 1) // 2}, or filters of {LIE_KERNEL_SIZE} pixels "
                f"cannot hold the smallest kernel; got {self.max_scale}"
            )
        if self.kind in ("separable+2d", "gseparable+2d") and (scales is None or group.angles is None):
            raise ValueError(
                f"model.kind {self.kind} factors rotations and scales, as of Sim2-16x3; {self.group} has not both"
            )

    def parsed_group(self) -> Group | LieGroup:
        """The group.

        Raises:
          ValueError: there is none of this name, or `max_scale` is out of range.
        """
        return parse_lie_group(self.group, self.max_scale) or parse_group(self.group)

    def parsed_attention_options(self) -> dict[str, int | bool | str]:
        """The attention's further arguments by name.

        Raises:
          ValueError: an option is not NAME=VALUE, or the attention has none of this name.
        """
        known = {} if self.attention == "none" else attention_options(self.attention)
        return parse_options(
            "model.attention_options", f"model.attention {self.attention}", self.attention_options, known
        )

    def parsed_kernel_options(self) -> dict[str, int | float]:
        """The kernel networks' further arguments by name.

        Raises:
          ValueError: an option is not NAME=VALUE, the network has none of this name, or it is out of range.
        """
        field, of = "model.kernel_options", f"model.kernel_network {self.kernel_network}"
        options = parse_options(field, of, self.kernel_options, network_options(self.kernel_network))
        try:
            check_network(self.kernel_network, options, self.parsed_group())
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from None
        return options
