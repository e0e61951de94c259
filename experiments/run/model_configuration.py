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
from attgconv_jax.models.layers import check_attention
from experiments.run.checks import check_name
from experiments.run.groups import parse_group, parse_lie_group

DType = Literal["float32", "bfloat16", "float64"]

MAX_SCALE = 1.74
"""Of the separable paper's groups."""


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """A network of the registry. `model` makes it, with the network's own arguments beside these."""

    name: str = "rot_mnist"
    group: str = "p4"
    """z2, p4, p4m, C8 (8 rotations), D2 (also reflections); on Lie groups: SE2-8, R2xR-3, Sim2-16x3."""
    attention: str = "none"
    attention_options: tuple[str, ...] = ()
    """Of the attention, as NAME=VALUE: groups=5 over_group=True."""
    dtype: DType = "float32"
    """bfloat16 keeps parameters and statistics in float32."""

    def __post_init__(self):
        check_name("model.name", self.name, NETWORKS)
        check_name("model.attention", self.attention, ["none", *OPERATORS])
        check_name("model.dtype", self.dtype, get_args(DType))
        options = parse_options("model.attention_options", self.attention_options)
        # A network may take more than its attention does, such as options per stage.
        check = NETWORKS[self.name].check_attention or check_attention
        try:
            check(None if self.attention == "none" else self.attention, options)
        except ValueError as error:
            raise ValueError(f"model.attention_options: {error}") from error
        group = self.parsed_group()
        lie = isinstance(group, LieGroup)
        if lie != NETWORKS[self.name].lie:
            known = ", ".join(name for name, entry in NETWORKS.items() if entry.lie == lie)
            raise ValueError(f"model.name must be a network on groups such as {self.group}: {known}; got {self.name}")
        if lie and group.scales is None and self.max_scale != MAX_SCALE:
            raise ValueError(f"model.max_scale is of groups that scale, such as R2xR-3; {self.group} has no scales")

    def parsed_group(self) -> Group | LieGroup:
        """The group; a `ValueError` if there is none of this name, or `max_scale` is out of range."""
        return parse_lie_group(self.group, getattr(self, "max_scale", MAX_SCALE)) or parse_group(
            self.group, "model.group"
        )

    def image_size(self, pixels: int) -> int:
        """Pixels along each axis to which images of so many are brought for this network."""
        return NETWORKS[self.name].nearest_size(pixels, self.parsed_group())

    def build(self, in_features: int, classes: int, rngs: nnx.Rngs) -> nnx.Module:
        """The network, freshly initialised, in training mode; float64 needs x64."""
        options = NETWORKS[self.name].options()
        own = {name: _argument(name, getattr(self, name), option) for name, option in options.items()}
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
    options = NETWORKS[name].options().items()
    fields = [(option, _helped(_field_type(known.type), known.help), _default(known)) for option, known in options]
    lie = NETWORKS[name].lie
    networks = ", ".join(f"{known} (on Lie groups)" if entry.lie else known for known, entry in NETWORKS.items())
    further = [("name", str, name, f"{networks}."), ("attention", str, "none", _attention_help(lie))]
    if lie:
        further.append(("group", str, "SE2-8", "SE2-8 (8 rotations), R2xR-3 (3 scales), Sim2-16x3 (both)."))
        further.append(("max_scale", float, MAX_SCALE, "The largest scale sampled; the smallest is 1."))
    fields += [(field, _helped(kind, text), default) for field, kind, default, text in further]
    made = dataclasses.make_dataclass("ModelConfig", fields, bases=(ModelConfig,), frozen=True, kw_only=True)
    made.__doc__ = (inspect.getdoc(NETWORKS[name].network) or "").partition("\n")[0]
    return made


def model(name: str, group: str, attention: str = "none", **arguments: Any) -> ModelConfig:
    """The configuration of a network, by the names of the command line; `arguments` are further fields.

    Raises:
      ValueError: an unknown name, or an argument that the network does not have.
    """
    made = config_class(name)
    known = [field.name for field in dataclasses.fields(made)]
    for argument in arguments:
        check_name(f"an argument of {name}", argument, known)
    return made(name=name, group=group, attention=attention, **arguments)


def parse_options(field: str, options: Sequence[str]) -> dict[str, Any]:
    """The values of options NAME=VALUE by name: numbers, True, False or None, else the words themselves."""
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


def _attention_help(lie):
    """Names of the operators by where they act."""
    groups = [("on inputs", ["input"]), ("of other papers", ["residual", "stage"]), ("on responses", ["response"])]
    named = [(text, [name for name, operator in OPERATORS.items() if operator.site in sites]) for text, sites in groups]
    return "; ".join(["none", *(f"{text} {', '.join(names)}" for text, names in named[: 2 if lie else 3])]) + "."


def _is(annotation, kind):
    """Whether an annotation, or a part of it, is a container of this kind."""
    return any(get_origin(part) is kind for part in (annotation, *get_args(annotation)))


def _field_type(annotation):
    """As a command line takes it: widths as numbers, mappings as NAME=VALUE."""
    if _is(annotation, collections.abc.Mapping):
        return tuple[str, ...]
    return tuple[int, ...] if _is(annotation, collections.abc.Sequence) else annotation


def _default(option):
    if option.default is inspect.Parameter.empty:
        return dataclasses.field()
    if _field_type(option.type) not in (tuple[str, ...], tuple[int, ...]):
        return option.default
    return tuple(option.default) if isinstance(option.default, Sequence) else ()


def _argument(name, value, option):
    """A field as the constructor takes it; None leaves the constructor's default."""
    if _is(option.type, collections.abc.Mapping):
        return parse_options(f"model.{name}", value) or None
    if _is(option.type, collections.abc.Sequence):
        alone = len(value) == 1 and get_origin(option.type) is not collections.abc.Sequence
        return None if not value else value[0] if alone else value
    return value
