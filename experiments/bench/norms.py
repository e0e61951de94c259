"""How far evaluation drifts from training by the norms inside of attention: `python -m experiments.bench.norms`.

Every operator that has norms or may have them, with random weights that stay as they are, is called in training mode
again and again, each time on new feature maps, and its running statistics follow. Then its map of 256 others in
evaluation is compared with what training makes of all 256 together: the largest difference, the share of numbers below
0.01 or above 0.99, and the least variance that a norm of the operator keeps. Saved as JSON.

Another revision of the library, which has batch norms alone, is measured by this file in its stead:

    mkdir former && git archive REVISION attgconv_jax experiments | tar -x -C former
    cp experiments/bench/norms.py former/experiments/bench
    cd former && python -m experiments.bench.norms --kinds batch
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import tyro
from flax import nnx
from jax import lax

from attgconv_jax import OPERATORS, cyclic, trivial
from attgconv_jax.nn import ATTENTIONS, SelectiveKernelGroupConv
from experiments.bench import common
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.runtime import command

CHANNELS, SIZE, IMAGES = 16, 8, 256
GROUPS = {"z2": trivial(), "p4": cyclic(4)}
BATCHES = 1, 16

COLUMNS: dict[str, Column] = {
    "operator": ("operator", ""),
    "group": ("group", ""),
    "over the group": (lambda row: "yes" if row["over_group"] else "", ""),
    "norm": ("norm", ""),
    "batch": ("batch", ""),
    "drift": ("drift", ".3f"),
    "saturated (%)": ("saturated_percent", ".0f"),
    "least variance": ("least_variance", ".1e"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures how far evaluation is from training after many steps of batches of 1 and 16 images."""

    kinds: Annotated[tuple[str, ...], tyro.conf.arg(help="Of norms.")] = ("batch", "layer", "group")
    calls: Annotated[int, tyro.conf.arg(help="In training mode.")] = 600
    operators: Annotated[tuple[str, ...], tyro.conf.arg(help="Names of operators. Default: all that have norms.")] = ()


def main(arguments: Arguments) -> None:
    """Measures all operators that have norms, prints a table and saves the figures."""
    results = common.Results("norms", arguments.out, COLUMNS, calls=arguments.calls, rows=[])
    normed = {name: operator for name, operator in OPERATORS.items() if operator.norms}
    operators = chosen("operators", arguments.operators, normed)
    for (operator, names), group, kind in itertools.product(cases(operators), GROUPS, arguments.kinds):
        # Other norms than batch norm are of every image by itself.
        batches = BATCHES if kind == "batch" else BATCHES[:1]
        option = OPERATORS[operator].options.get("over_group")
        both = kind == "batch" and group == "p4" and option is not None and not option.default
        over = (False, True) if both else (False,)
        for over_group, batch in itertools.product(over, batches):
            title = " with ".join([operator, *(name for name in names if default_of(operator, name) is None)])
            case = {"operator": title, "group": group, "over_group": over_group, "norm": kind, "batch": batch}
            results.add(case | drift(operator, names, group, over_group, kind, batch, arguments.calls))


def cases(operators: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Operators with the norms that they have, and with those that they may have besides."""
    found = []
    for operator in operators:
        every = list(OPERATORS[operator].norms)
        usual = [name for name in every if default_of(operator, name) is not None]
        found += [(operator, names) for names in ([usual, every] if usual != every else [every]) if names]
    return found


def default_of(operator: str, name: str) -> str | None:
    """Which norm an operator has unless told otherwise; other revisions have batch norms, by no option."""
    return getattr(OPERATORS[operator].norms[name], "default", "batch")


def drift(
    operator: str, names: Sequence[str], group: str, over_group: bool, norm: str, batch: int, calls: int
) -> dict[str, float | None]:
    """The figures of an operator after so many calls; None for each where training raises a `ValueError`."""
    module = made(operator, names, group, over_group, norm)
    order = GROUPS[group].order
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    module.eval()
    evaluation = nnx.split(module, nnx.Param, ...)[0]

    @jax.jit
    def measured(params, rest, batches, f):
        def step(rest, batch):
            module = nnx.merge(graph, params, rest, copy=True)
            module.attention_maps(batch)
            return nnx.split(module, nnx.Param, ...)[2], None

        kept, _ = lax.scan(step, rest, batches)
        maps = (nnx.merge(mode, params, kept, copy=True).attention_maps(f) for mode in (evaluation, graph))
        return *maps, kept

    try:
        evaluated, trained, kept = measured(params, rest, drawn(1, calls, batch, order), drawn(2, 1, IMAGES, order)[0])
    except ValueError:
        return dict.fromkeys(("drift", "saturated_percent", "least_variance"))
    # What is added has no bounds.
    saturated = None if OPERATORS[operator].combination == "add" else (evaluated < 0.01) | (evaluated > 0.99)
    variances = [jnp.min(leaf) for path, leaf in jax.tree.leaves_with_path(kept) if _is_variance(path)]
    return {
        "drift": float(jnp.max(jnp.abs(evaluated - trained))),
        "saturated_percent": None if saturated is None else float(100 * jnp.mean(saturated)),
        "least_variance": float(min(variances)) if variances else None,
    }


def made(operator: str, names: Sequence[str], group: str, over_group: bool, norm: str) -> nnx.Module:
    """A module in training mode, all weights of the operator random, the norms of these names of this kind."""
    record = OPERATORS[operator]
    options = {"over_group": True} if over_group else {}
    options |= {"reduction": 4} if "reduction" in record.options else {}
    options |= {name: norm for name in names if default_of(operator, name) != norm}
    if operator == "sk":
        sizes = CHANNELS, CHANNELS, 3, GROUPS[group]
        return SelectiveKernelGroupConv(*sizes, padding=1, rngs=nnx.Rngs(0), **options)
    module = ATTENTIONS[operator](CHANNELS, GROUPS[group], rngs=nnx.Rngs(0), **options)
    if operator == "srm":
        # They begin at zero.
        module.weights[...] = jax.random.normal(jax.random.key(3), module.weights.shape, jnp.float32)
    if operator == "non_local":
        # So does its norm.
        module.norms.norm.scale[...] = jnp.ones_like(module.norms.norm.scale[...])
    return module


@functools.cache
def drawn(seed: int, calls: int, batch: int, order: int) -> jax.Array:
    """So many batches of feature maps, which are the same for all operators."""
    keys = jax.random.split(jax.random.key(seed), calls)
    return jax.jit(lambda keys: lax.map(lambda key: feature_maps(key, batch, order), keys))(keys)


def feature_maps(key, batch: int, order: int):
    """Relus of noise around a mean that every channel, group element and image has for itself."""
    mean, noise = (jax.random.fold_in(key, i) for i in range(2))
    means = jax.random.normal(mean, [batch, 1, 1, order, CHANNELS], jnp.float32)
    return jax.nn.relu(means + jax.random.normal(noise, [batch, SIZE, SIZE, order, CHANNELS], jnp.float32))


def _is_variance(path):
    """Whether this is a variance of the operator itself, and not of the convolutions beside it."""
    name = jax.tree_util.keystr(path)
    return "['var']" in name and "conv_norms" not in name


cli = command(main, Arguments)
