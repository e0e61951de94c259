"""What a network is made of on the command line: the registry's networks, each with its own arguments."""

import ast
import collections.abc
import dataclasses
import functools
import inspect
from collections.abc import Sequence
from typing import Annotated, Any, Literal, get_args, get_origin

import jax.numpy as jnp
import tyro
from flax import nnx

from attgconv_jax import OPERATORS, Group
from attgconv_jax.lie import LieGroup
from attgconv_jax.models import NETWORKS
from experiments.run.checks import check_name
from experiments.run.groups import parse_group, parse_lie_group

DType = Literal["float32", "bfloat16", "float64"]

MAX_SCALE = 1.74
"""Of the separable paper's groups."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A network of the registry. `model` makes it, with the network's own arguments beside these."""

    name: str = "rot_mnist"
    """Which network."""

    group: str = "p4"
    """z2, p4, p4m, C8 (8 rotations), D2 (also reflections); Lie groups: SE2-8 (8 rotations), R2xR-3, Sim2-16x3."""

    attention: str = "none"
    """Which attention."""

    attention_options: tuple[str, ...] = ()
    """Arguments of the attention, as NAME=VALUE: groups=5 over_group=True."""

    dtype: DType = "float32"
    """To compute in. bfloat16 keeps parameters and statistics in float32."""

    def __post_init__(self):
        check_name("model.name", self.name, NETWORKS)
        check_name("model.attention", self.attention, ["none", *OPERATORS])
        check_name("model.dtype", self.dtype, get_args(DType))
        parse_options("model.attention_options", self.attention_options)
        group = self.parsed_group()
        lie = isinstance(group, LieGroup)
        if lie != NETWORKS[self.name].lie:
            known = ", ".join(name for name, entry in NETWORKS.items() if entry.lie == lie)
            raise ValueError(f"model.name must be a network on groups such as {self.group}: {known}; got {self.name}")
        if lie and group.scales is None and self.max_scale != MAX_SCALE:
            raise ValueError(f"model.max_scale is of groups that scale, such as R2xR-3; {self.group} has no scales")

    def parsed_group(self) -> Group | LieGroup:
        """The group.

        Raises:
          ValueError: there is none of this name, or `max_scale` is out of range.
        """
        return parse_lie_group(self.group, getattr(self, "max_scale", MAX_SCALE)) or parse_group(self.group)

    def image_size(self, pixels: int) -> int:
        """Pixels along each axis to which images of so many are brought for this network."""
        return NETWORKS[self.name].nearest_size(pixels, self.parsed_group())

    def build(self, in_features: int, classes: int, rngs: nnx.Rngs) -> nnx.Module:
        """The network, freshly initialised, in training mode; float64 needs x64.

        Raises:
          ValueError: an argument is out of range.
        """
        own = {
            name: _argument(name, getattr(self, name), option) for name, option in NETWORKS[self.name].options().items()
        }
        return NETWORKS[self.name].network(
            group=self.parsed_group(),
            attention=None if self.attention == "none" else self.attention,
            attention_options=parse_options("model.attention_options", self.attention_options),
            in_features=in_features,
            classes=classes,
            dtype=None if self.dtype == "float32" else jnp.dtype(self.dtype),
            param_dtype=jnp.dtype("float64" if self.dtype == "float64" else "float32"),
            rngs=rngs,
            **{name: value for name, value in own.items() if value is not None},
        )


@functools.cache
def config_class(name: str) -> type[ModelConfig]:
    """The configurations of a network: `ModelConfig` with the arguments of the network's constructor."""
    check_name("model.name", name, NETWORKS)
    fields = [
        (option, _helped(_field_type(known.type), known.help), _default(known))
        for option, known in NETWORKS[name].options().items()
    ]
    lie = NETWORKS[name].lie
    networks = ", ".join(f"{known} (on Lie groups)" if entry.lie else known for known, entry in NETWORKS.items())
    sites = {"input": "on inputs", "response": "on responses"}
    attentions = "; ".join(
        f"{site} {', '.join(names)}" for site, names in _by_site(sites).items() if not (lie and site == "on responses")
    )
    fields.append(("name", _helped(str, f"Which network: {networks}."), dataclasses.field(default=name)))
    fields.append(("attention", _helped(str, f"none; {attentions}."), dataclasses.field(default="none")))
    if lie:
        fields.append(("group", str, dataclasses.field(default="SE2-8")))
        text = "The largest scale sampled, of groups that scale; the smallest is 1."
        fields.append(("max_scale", _helped(float, text), dataclasses.field(default=MAX_SCALE)))
    made = dataclasses.make_dataclass("ModelConfig", fields, bases=(ModelConfig,), frozen=True, kw_only=True)
    made.__doc__ = (inspect.getdoc(NETWORKS[name].network) or "").partition("\n")[0]
    return made


def model(name: str, group: str, attention: str = "none", **arguments: Any) -> ModelConfig:
    """The configuration of a network.

    Args:
      name: in `attgconv_jax.models.NETWORKS`.
      group: as on the command line, such as "p4" or "SE2-8".
      attention: in every layer, or "none".
      **arguments: further fields: those of `ModelConfig` and the network's own.

    Raises:
      ValueError: an unknown name, or an argument that the network does not have.
    """
    made = config_class(name)
    known = [field.name for field in dataclasses.fields(made)]
    for argument in arguments:
        check_name(f"an argument of {name}", argument, known)
    return made(name=name, group=group, attention=attention, **arguments)


def parse_options(field: str, options: Sequence[str]) -> dict[str, Any]:
    """The values of options, each NAME=VALUE, by name: numbers, True, False or None, else the words themselves.

    Raises:
      ValueError: an option is not NAME=VALUE, or stands twice.
    """
    parsed = {}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"{field} must be NAME=VALUE, such as reduction=4, got {option!r}")
        if name in parsed:
            raise ValueError(f"{field} names {name} twice; once will do")
        try:
            parsed[name] = ast.literal_eval(value)
        except (SyntaxError, ValueError):
            parsed[name] = value
    return parsed


def _helped(kind, text):
    return Annotated[kind, tyro.conf.arg(help=text)]


def _by_site(sites):
    """Names of the operators by where they act; those of residual networks' stand in the middle."""
    named = {"on inputs": [], "of other papers": [], "on responses": []}
    for name, operator in OPERATORS.items():
        named[sites.get(operator.site, "of other papers")].append(name)
    return named


def _is(annotation, kind):
    """Whether an annotation, or a part of it, is a container of this kind."""
    return any(get_origin(part) is kind for part in (annotation, *get_args(annotation)))


def _field_type(annotation):
    """As a command line takes it: widths as numbers, mappings as NAME=VALUE."""
    if _is(annotation, collections.abc.Mapping):
        return tuple[str, ...]
    return tuple[int, ...] if _is(annotation, collections.abc.Sequence) else annotation


def _default(option):
    container = _field_type(option.type) in (tuple[str, ...], tuple[int, ...])
    if option.default is inspect.Parameter.empty:
        return dataclasses.field()
    if not container:
        return dataclasses.field(default=option.default)
    many = isinstance(option.default, Sequence)
    return dataclasses.field(default=tuple(option.default) if many else ())


def _argument(name, value, option):
    """A field as the constructor takes it; None leaves the constructor's default."""
    if _is(option.type, collections.abc.Mapping):
        return parse_options(f"model.{name}", value) or None
    if _is(option.type, collections.abc.Sequence):
        alone = len(value) == 1 and get_origin(option.type) is not collections.abc.Sequence
        return None if not value else value[0] if alone else value
    return value
