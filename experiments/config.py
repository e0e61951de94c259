"""What a run is made of: frozen dataclasses, which `tyro` turns into a command line."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

import jax
import tyro

from attgconv_jax import Group
from attgconv_jax.lie import LieGroup, lie_weights
from attgconv_jax.lie.kernel_networks import NETWORKS, KernelNetworkName
from attgconv_jax.lie.kernels import least_size
from attgconv_jax.models.layers import ResponseAttention, attention_options
from attgconv_jax.nn.attentive import AttentionName
from attgconv_jax.separable import Form
from experiments.checks import check, check_choice, check_seed, parse_options
from experiments.data import DatasetName
from experiments.groups import parse_group, parse_lie_group

Attention = Literal["none"] | AttentionName | ResponseAttention
DType = Literal["float32", "bfloat16", "float64"]
Schedule = Literal["constant", "cosine", "step"]
SeedsMode = Literal["auto", "loop", "vmap"]
LieKind = Literal[
    "nonseparable", "gseparable", "separable", "dseparable", "dgseparable", "separable+2d", "gseparable+2d"
]
Kind = Literal[Form, LieKind]

MAX_SCALE = 1.74
"""Of the separable paper's groups."""
LIE_KERNEL_SIZE = 7
"""Of the residual network on Lie groups, in pixels."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The images: `digits*` are embedded, every other set is prepared once by `python -m experiments.data.prepare`."""

    name: DatasetName = "digits"
    """Which data set."""

    directory: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder of prepared sets. Default: TFDS' own, $TFDS_DATA_DIR or ~/tensorflow_datasets."""

    test_images: int | None = None
    """How many images of the test split count, the first. Default: all."""

    seed: int = 0
    """Of digits*: decides split, angles, scales. Of mnist, fashion_mnist, kmnist: which training images validate."""

    def __post_init__(self):
        check_choice("data.name", self.name, DatasetName)
        check_seed("data.seed", self.seed)
        good = self.test_images is None or self.test_images >= 1
        check("data.test_images", self.test_images, "at least 1", good)


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
        options = parse_options(field, of, self.kernel_options, NETWORKS[self.kernel_network].options)
        shared = dict(lifting=True, network=self.kernel_network, network_options=options)
        try:
            jax.eval_shape(lambda key: lie_weights(key, 1, 1, 1, self.parsed_group(), **shared), jax.random.key(0))
        except ValueError as error:
            raise ValueError(f"{field}: {error}") from None
        return options


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """How parameters are updated."""

    name: Literal["adam", "sgd"] = "adam"
    """adam, or sgd with momentum."""

    learning_rate: float = 2e-3
    """Of the first step after the warm-up."""

    schedule: Schedule = "cosine"
    """constant; cosine, to zero at the end; step, times `decay` after every epoch in `milestones`."""

    milestones: tuple[int, ...] = ()
    """Epochs after which the step schedule lowers the learning rate."""

    decay: float = 0.1
    """Factor of the step schedule."""

    warmup_epochs: float = 0.0
    """The learning rate first rises from zero, linearly."""

    momentum: float = 0.9
    """Of sgd."""

    l2: float = 1e-4
    """Its product with the parameters is added to the gradient, before Adam rescales it: the papers' L2."""

    weight_decay: float = 0.0
    """Decoupled: its product with learning rate and parameters is taken from the parameters (AdamW)."""

    clip_norm: float | None = None
    """Gradients of the loss with a larger global norm are scaled down to it."""

    epochs: int = 60
    """Passes over the training split."""

    batch_size: int = 64
    """Images a step. What does not fill the last batch of an epoch waits for the next epoch's shuffle."""

    def __post_init__(self):
        check_choice("optimizer.name", self.name, Literal["adam", "sgd"])
        check_choice("optimizer.schedule", self.schedule, Schedule)
        for name in ("epochs", "batch_size"):
            check(f"optimizer.{name}", getattr(self, name), "at least 1", getattr(self, name) >= 1)
        for name in ("learning_rate", "decay"):
            check(f"optimizer.{name}", getattr(self, name), "positive", getattr(self, name) > 0)
        for name in ("l2", "weight_decay", "warmup_epochs"):
            check(f"optimizer.{name}", getattr(self, name), "not negative", getattr(self, name) >= 0)
        check("optimizer.momentum", self.momentum, "in [0, 1)", 0 <= self.momentum < 1)
        if self.clip_norm is not None:
            check("optimizer.clip_norm", self.clip_norm, "positive", self.clip_norm > 0)
        rising = list(self.milestones) == sorted(set(self.milestones))
        inside = all(0 < epoch < self.epochs for epoch in self.milestones)
        check("optimizer.milestones", self.milestones, f"rising epochs before {self.epochs}", rising and inside)
        if self.milestones and self.milestones[0] <= self.warmup_epochs:
            raise ValueError(
                f"optimizer.milestones must lie after the {self.warmup_epochs} epochs of warm-up, got {self.milestones}"
            )
        if self.milestones and self.schedule != "step":
            raise ValueError(f"optimizer.milestones need optimizer.schedule step, got {self.schedule}")
        if self.schedule == "step" and not self.milestones:
            raise ValueError("optimizer.schedule step needs optimizer.milestones, for example 40 60 80")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"optimizer.warmup_epochs must be less than the {self.epochs} epochs, got {self.warmup_epochs}"
            )


@dataclasses.dataclass(frozen=True)
class Config:
    """One training run: one network, over one or several seeds."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()

    seeds: tuple[int, ...] = (0,)
    """A network a seed, trained side by side: each decides initialisation, shuffling, dropout and random grids."""

    seeds_mode: SeedsMode = "auto"
    """vmap computes all seeds in one batched program, loop one after the other; auto: loop on CPU, else vmap."""

    test_every: int = 5
    """Epochs between measurements of the test error, for the record: it decides nothing."""

    def __post_init__(self):
        check("seeds", self.seeds, "one or more different numbers", 0 < len(self.seeds) == len(set(self.seeds)))
        for seed in self.seeds:
            check_seed("seeds", seed)
        check_choice("seeds_mode", self.seeds_mode, SeedsMode)
        check("test_every", self.test_every, "at least 1", self.test_every >= 1)


def identity(config: Config) -> dict[str, Any]:
    """The fields that decide a run's numbers, by dotted name, as JSON holds them: all but where the data lie."""
    fields = _flatten(dataclasses.asdict(config))
    del fields["data.directory"]
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def from_identity(fields: Mapping[str, Any], directory: pathlib.Path | None = None) -> Config:
    """The configuration that `identity` described, with its data in `directory`.

    Raises:
      ValueError: a field is missing, unknown or wrong; the message names it.
    """
    config = Config()
    expected = identity(config).keys()
    fields = _LATER | dict(fields)
    if fields.keys() != expected:
        raise ValueError(
            f"a configuration has the fields {', '.join(expected)}; missing: "
            f"{', '.join(expected - fields.keys()) or 'none'}; unknown: {', '.join(fields.keys() - expected) or 'none'}"
        )
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    parts = {
        part: type(getattr(config, part))(
            **{name.split(".")[1]: value for name, value in values.items() if name.startswith(f"{part}.")},
            **({"directory": directory} if part == "data" else {}),
        )
        for part in ("data", "model", "optimizer")
    }
    return Config(**parts, **{name: value for name, value in values.items() if "." not in name})


# Of runs that began before these fields existed.
_LATER = {
    "data.test_images": None,
    "model.attention_options": [],
    "model.features": [],
    "model.kernel_network": "siren",
    "model.kernel_options": [],
    "model.kind": None,
    "model.max_scale": MAX_SCALE,
    "model.random_grids": False,
}


def _flatten(fields, prefix=""):
    flat = {}
    for name, value in fields.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat
