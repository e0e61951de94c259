"""What an attention operator is: one record, from which modules, command lines, tables and tests follow."""

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from attgconv_jax.checks import check_boolean, check_choice, check_finite_positive, check_integer
from attgconv_jax.deprecation import warn_deprecated
from attgconv_jax.docstrings import source_of
from attgconv_jax.filters import Sampling, check_sampling

Site = Literal["input", "residual", "stage", "response"]
Combination = Literal["scale", "suppress", "emphasise", "add", "choose"]
NormKind = Literal["batch", "layer", "group"]
NormOption = NormKind | Callable | None


@dataclasses.dataclass(frozen=True)
class Norm:
    """A norm that a formula calls.

    Attributes:
      channels: how many it normalises, a function of the weights; several numbers where the formula takes a sequence.
      default: which the operator has unless told otherwise; None: none.
      zero: whether its scale starts at zero.
      pooled: how many norms, the first of them, are of statistics, which have one position an image; the others are of
        maps. A norm of every image by itself then has one number of one channel, which modules refuse when made.
    """

    channels: Callable[[Any], int | tuple[int, ...]]
    default: NormOption = "batch"
    zero: bool = False
    pooled: int = 0


# Of the layer or the network that has an attention, and through it of the attention.
_OF_LAYERS = ("precision", "implementation", "lifting", "haar", "sampling", "dtype", "param_dtype", "rngs")


@dataclasses.dataclass(frozen=True, eq=False)
class Operator:
    """An attention operator: its formula, its initial weights, and how it is combined with what it attends to.

    Attributes:
      name: in configurations and on the command line.
      module: name of its class in `attgconv_jax.nn`.
      title: in tables.
      init: initial weights, `(key, features, group, *, lifting, dtype, **options) -> weights`; `key` is a key or a
        source of keys, see `attgconv_jax.initializers.key_source`.
      apply: the formula, `(f, weights, group, **options) -> alpha`. An option that both take has one meaning.
      combination: see `attgconv_jax.attend`; an option of `apply` of that name takes its place.
      site: where its paper has it: on the "input" of a convolution, on what a "residual" branch adds, on the output of
        a "stage" of residual blocks, or as attention on the "response" of a convolution, whose place it then takes.
        Every operator but the last may stand anywhere.
      source: the paper, with its number on arXiv; that of the formula's docstring, if any, where none is given.
      norms: by argument of `apply` the norm that it calls, a `Norm` or its `channels`. A module makes it, and which one
        is an option of that name; `init` gets the option, too, if it takes it.
      settings: options of `init` that are fixed, where one formula makes several operators.
      pairwise: whether time grows with pairs of positions, so that networks leave it out on large maps.
    """

    name: str
    module: str
    title: str
    init: Callable
    apply: Callable
    combination: Combination = "scale"
    site: Site = "residual"
    source: str = ""
    norms: Mapping[str, Norm | Callable[[Any], int]] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pairwise: bool = False

    def __post_init__(self):
        object.__setattr__(self, "source", self.source or source_of(self.apply))
        norms = {name: norm if isinstance(norm, Norm) else Norm(norm) for name, norm in self.norms.items()}
        object.__setattr__(self, "norms", norms)

    @functools.cached_property
    def options(self) -> dict[str, inspect.Parameter]:
        """The arguments of a user: those of `init`, then those of `apply`; of a norm which, instead of a function."""
        parameters = {**inspect.signature(self.init).parameters, **inspect.signature(self.apply).parameters}
        for name, norm in self.norms.items():
            parameters[name] = parameters[name].replace(default=norm.default, annotation=NormOption)
        given, keywords = {"lifting", "dtype", *self.settings}, inspect.Parameter.KEYWORD_ONLY
        return {name: value for name, value in parameters.items() if value.kind == keywords and name not in given}

    @property
    def function(self) -> Callable:
        """The former name of `apply`."""
        warn_deprecated("Operator.function", "Operator.apply")
        return self.apply

    @property
    def acts(self) -> Site:
        """The former name of `site`."""
        warn_deprecated("Operator.acts", "Operator.site")
        return self.site

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raises a `ValueError` unless these are options of the operator, of their types."""
        for name, value in options.items():
            if name not in self.options:
                raise unknown_option(self.name, name, self.options)
            _check_type(name, value, self.options[name].annotation)

    def of_init(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those options that `init` takes, with the record's own settings."""
        return {**_taken(self.init, options), **self.settings}

    def of_apply(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Those options that `apply` takes, but for the norms."""
        return {name: value for name, value in _taken(self.apply, options).items() if name not in self.norms}

    def norms_of(
        self, weights: Any, options: Mapping[str, Any]
    ) -> dict[str, tuple[NormKind | Callable, int | tuple[int, ...]]]:
        """By name the kind and the channels of those norms that an operator with these weights and options has."""
        given = {**options, **self.settings}
        kinds = {name: given.get(name, norm.default) for name, norm in self.norms.items()}
        return {name: (kind, self.norms[name].channels(weights)) for name, kind in kinds.items() if kind is not None}

    def combination_of(self, options: Mapping[str, Any]) -> Combination:
        """How an operator with these options is combined with what it attends to."""
        return options.get("combination", self.combination)


OPERATORS: dict[str, Operator] = {}
"""The operators by name; filled by `register`."""


def register(operator: Operator) -> Operator:
    """Adds an operator to `OPERATORS`, and so to modules, networks, command lines and tables."""
    known = OPERATORS.get(operator.name, operator)
    if (known.apply.__module__, known.apply.__qualname__) != (operator.apply.__module__, operator.apply.__qualname__):
        raise ValueError(f"name must be that of no other operator; {operator.name!r} is {known.title}")
    OPERATORS[operator.name] = operator
    return operator


def register_factors(operator: Operator, channel: str, spatial: str) -> None:
    """Registers an operator of two factors, and each of them alone under a title of its own."""
    register(operator)
    for factor, title in (("channel", channel), ("spatial", spatial)):
        settings = {"channel": factor == "channel", "spatial": factor == "spatial"}
        register(dataclasses.replace(operator, name=f"{operator.name}_{factor}", title=title, settings=settings))


def register_files(package: types.ModuleType) -> None:
    """Imports every module of a package, whose operators register themselves."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


def check_norm(name: str, kind: Any) -> None:
    """Raises a `ValueError` unless this is a kind of norm, a function that makes one, or None."""
    if kind is None or callable(kind) or (isinstance(kind, str) and kind in get_args(NormKind)):
        return
    names = ", ".join(f'"{choice}"' for choice in get_args(NormKind))
    raise ValueError(
        f"{name} must be one of {names}, None, or a function that makes a norm, such as nnx.LayerNorm, got {kind!r}"
    )


def unknown_option(attention: str, name: str, known: Iterable[str]) -> ValueError:
    """The error of an option that an attention does not take."""
    hint = f"; give {name} to the layer or network that has the attention" if name in _OF_LAYERS else ""
    return ValueError(f"{attention} has no argument {name!r}; it takes {', '.join(known) or 'none'}{hint}")


def _taken(function, options):
    parameters = inspect.signature(function).parameters
    return {name: value for name, value in options.items() if name in parameters}


def _check_type(name, value, annotation):
    """Raises a `ValueError` unless a value is of the annotated type, as far as annotations of options go."""
    if annotation == NormOption:
        check_norm(name, value)
        return
    kinds = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    if value is None and type(None) in kinds:
        return
    if bool in kinds:
        check_boolean(**{name: value})
    elif int in kinds:
        check_integer(name, value)
    elif float in kinds:
        check_finite_positive(**{name: value})
    elif Sampling in kinds:
        check_sampling(value)
    names = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if names and not (callable(value) and any(get_origin(kind) is Callable or kind is Callable for kind in kinds)):
        check_choice(name, value, names)
