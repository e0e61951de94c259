"""Attention operators as Flax NNX modules: one generic module, a class for every record."""

import functools
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, get_args

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn.dtypes import promote_dtype
from jaxtyping import Array, Float

from attgconv_jax.attention import OPERATORS, Operator, attend
from attgconv_jax.attention.operator import Combination
from attgconv_jax.checks import check_boolean
from attgconv_jax.deprecation import warn_deprecated
from attgconv_jax.docstrings import argument_help
from attgconv_jax.filters import former_sampling
from attgconv_jax.groups import Group
from attgconv_jax.kernels.settings import check_precision, computing
from attgconv_jax.nn.attention_norm import check_pooled_norm, in_operator, operator_norm
from attgconv_jax.nn.module import ClassSignature, Module

_FORMULAS = {"scale": "alpha f", "suppress": "(1 - alpha) f", "emphasise": "(1 + alpha) f", "add": "f + alpha"}


class OperatorAttention(Module):
    """An attention operator with weights of its own; `ATTENTIONS` has a subclass for every one.

    Further arguments are those of the operator's initial weights and of its formula.
    Other arguments: see `attgconv_jax.nn`.
    """

    operator: ClassVar[Operator]

    @former_sampling
    def __init__(
        self,
        features: int,
        group: Group,
        *,
        lifting: bool = False,
        precision: str | None = None,
        dtype=None,
        param_dtype=jnp.float32,
        rngs: nnx.Rngs,
        **options: Any,
    ):
        check_boolean(lifting=lifting)
        check_precision(precision)
        self.operator.check_options(options)
        of_init = self.operator.of_init(options)
        weights = self.operator.init(rngs.params, features, group, lifting=lifting, dtype=param_dtype, **of_init)
        self.weights = nnx.data(jax.tree.map(nnx.Param, weights))
        arrays = dict(dtype=dtype, param_dtype=param_dtype, rngs=rngs)
        norms, statistics = {}, dict(lifting=lifting, over_group=options.get("over_group", False))
        for name, (kind, channels) in self.operator.norms_of(weights, options).items():
            record = self.operator.norms[name]
            for count in (channels if isinstance(channels, tuple) else (channels,))[: record.pooled]:
                check_pooled_norm(name, kind, count, features, group, **statistics)
            norms[name] = _norms(kind, channels, record.zero, **arrays)
        if norms:
            self.norms = nnx.Dict(norms)
        self.group = group
        # Pairs and no dict: a graph definition that holds a dict cannot be hashed, nor be a static argument.
        self._options = tuple(self.operator.of_apply(options).items())
        self.precision, self.dtype = precision, dtype

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the operator's formula that were given."""
        return dict(self._options)

    def __call__(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch x y h c"]:
        """Attends; see `attgconv_jax.attend`."""
        f, weights = self._promoted(f)
        return attend(f, self._alpha(f, weights), self.combination)

    @property
    def combination(self) -> Combination:
        """How the map is combined with `f`; see `attgconv_jax.attend`."""
        return self.operator.combination_of(self.options)

    def attention_maps(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch #x #y #h #c"]:
        """The operator's `alpha`: what `f` is scaled by, or what is suppressed, or what is added."""
        return self._alpha(*self._promoted(f))

    def attention_map(self, f: Float[Array, "*batch x y h c"]) -> Float[Array, "*batch #x #y #h #c"]:
        """The former name of `attention_maps`."""
        warn_deprecated(f"{type(self).__name__}.attention_map", "attention_maps")
        return self.attention_maps(f)

    def _alpha(self, f, weights):
        # By attribute: nnx.tabulate replaces the methods of nnx.Dict.
        held, over_group = getattr(self, "norms", None), self.options.get("over_group", False)
        made = {name: getattr(held, name) for name in self.operator.norms if hasattr(held, name)}
        norms = {name: in_operator(name, norm, f, self.group, over_group) for name, norm in made.items()}
        with computing(precision=self.precision):
            return self.operator.apply(f, weights, self.group, **self.options, **norms)

    def _promoted(self, f):
        values, structure = jax.tree.flatten(self.weights, is_leaf=lambda leaf: isinstance(leaf, nnx.Param))
        f, *values = promote_dtype((f, *(value[...] for value in values)), dtype=self.dtype)
        return f, jax.tree.unflatten(structure, values)


def _norms(kind, channels, zero, **options):
    """A norm of so many channels; of several numbers a list of norms."""
    if isinstance(channels, tuple):
        return nnx.List([_norms(kind, count, zero, **options) for count in channels])
    norm = operator_norm(kind, channels, **options)
    if zero and getattr(norm, "scale", None) is not None:
        norm.scale.set_value(jnp.zeros_like(norm.scale[...]))
    return norm


@functools.cache
def operator_module(operator: Operator) -> type[OperatorAttention]:
    """The module of an operator: `OperatorAttention` with its record, signature and documentation."""
    signature = ClassSignature(_signature(operator))
    attributes = dict(__doc__=_docstring(operator), __module__=__name__, __signature__=signature)
    return type(OperatorAttention)(operator.module, (OperatorAttention,), attributes | {"operator": operator})


class _Attentions(Mapping):
    """The modules of all operators that take a feature map, by name, made when they are first asked for."""

    def __getitem__(self, name: str) -> type[OperatorAttention]:
        if name not in OPERATORS or OPERATORS[name].site == "response":
            raise KeyError(name)
        return operator_module(OPERATORS[name])

    def __iter__(self) -> Iterator[str]:
        return (name for name, operator in OPERATORS.items() if operator.site != "response")

    def __len__(self) -> int:
        return sum(1 for _ in self)


ATTENTIONS: Mapping[str, type[OperatorAttention]] = _Attentions()
"""The modules by name; all are made as `Module(features, group, lifting=..., rngs=..., **options)`."""


def _signature(operator):
    common = inspect.signature(OperatorAttention.__init__).parameters
    leading, trailing = ("features", "group", "lifting"), ("precision", "dtype", "param_dtype", "rngs")
    own = operator.options.values()
    return inspect.Signature([*map(common.get, leading), *own, *map(common.get, trailing)])


def _docstring(operator):
    help_of = argument_help(operator.apply, operator.init)
    help_of |= {name: f"the kind of a norm, see `attgconv_jax.nn`: {help_of.get(name, '')}" for name in operator.norms}
    texts = [f"{name}: {help_of.get(name, 'see the formula and `attgconv_jax.nn`.')}" for name in operator.options]
    indents = dict(initial_indent="  ", subsequent_indent="    ")
    options = "\n".join(["Options:", *(textwrap.fill(text, 112, **indents) for text in texts)]) if texts else ""
    formula = f"`{_FORMULAS[operator.combination]}`"
    if "combination" in operator.options:
        others = {*get_args(operator.options["combination"].annotation)} - {operator.combination}
        formula += "".join(f', or `{_FORMULAS[other]}` with `combination="{other}"`' for other in sorted(others))
    return f"""`{operator.apply.__name__}` with weights of its own: {formula}.

>>> import jax, jax.numpy as jnp
>>> from flax import nnx
>>> from attgconv_jax import cyclic
>>> from attgconv_jax.nn import ATTENTIONS
>>> attention = ATTENTIONS["{operator.name}"](32, cyclic(4), rngs=nnx.Rngs(0))
>>> attention.eval()
>>> jax.eval_shape(attention, jnp.ones([2, 9, 9, 4, 32])).shape
(2, 9, 9, 4, 32)

{options}

Other arguments: see `attgconv_jax.nn`.

{f"Source: {operator.source}." if operator.source else ""}
"""


# Under their names in this file, too, where doctests are looked for.
CLASSES = {module.__name__: module for module in ATTENTIONS.values() if not module.operator.settings}
globals().update(CLASSES)
