"""How far gradients in low precision are from those in float32: `python -m experiments.bench.low_precision`.

For every parameter of every module: the norm of the difference of both gradients over the norm of that in float32, or
over a thousandth of the module's largest where that is more, on 32 images of 28x28 pixels, whose sums over all
positions do not fit the three digits of bfloat16. Parameters and images
are numbers that bfloat16 holds. Saved as JSON.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

from attgconv_jax import cyclic
from attgconv_jax.nn import (
    ATTENTIONS,
    GroupConv,
    ResponseAttentiveGroupConv,
    SelectiveKernelGroupConv,
    SeparableGroupConv,
)
from attgconv_jax.nn.norm import batch_norm
from experiments.bench import common
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.runtime import command

P4, FEATURES = cyclic(4), 4
BATCH, SIZE = 32, 28
# Of the largest gradient: biases before a norm have no gradient but rounding.
LEAST = 1e-3


def _conv(make, **options):
    return functools.partial(make, FEATURES, FEATURES, 3, P4, padding=1, **options)


def _norm(*, dtype, rngs):
    return batch_norm(FEATURES, dtype, jnp.float32, rngs)


MODULES: dict[str, Callable[..., nnx.Module]] = {
    "conv": _conv(GroupConv, use_bias=True),
    "lifting": _conv(GroupConv, use_bias=True, lifting=True),
    "grouped": _conv(GroupConv, use_bias=True, channel_groups=2),
    "separable": _conv(SeparableGroupConv, use_bias=True, kind="separable"),
    "gseparable": _conv(SeparableGroupConv, use_bias=True, kind="gseparable"),
    "response": _conv(ResponseAttentiveGroupConv),
    "sk": _conv(SelectiveKernelGroupConv),
    "norm": _norm,
    **{name: functools.partial(make, FEATURES, P4) for name, make in ATTENTIONS.items()},
}
"""What makes them of `dtype` and `rngs`."""

COLUMNS: dict[str, Column] = {
    "module": ("module", ""),
    "parameter": ("parameter", ""),
    "numbers": ("numbers", ""),
    "difference (%)": (lambda row: 100 * row["difference"], ".2f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures how far gradients in low precision are from those in float32."""

    modules: Annotated[tuple[str, ...], tyro.conf.arg(help="Names of modules. Default: all.")] = ()
    dtype: Annotated[str, tyro.conf.arg(help="bfloat16, float16.")] = "bfloat16"


def main(arguments: Arguments) -> None:
    """Measures the modules, prints a table and saves the figures."""
    (dtype,) = chosen("dtype", (arguments.dtype,), ("bfloat16", "float16"))
    names = chosen("modules", arguments.modules, MODULES)
    results = common.Results("low-precision", arguments.out, COLUMNS, dtype=dtype, rows=[])
    for name in names:
        for row in differences(name, jnp.dtype(dtype)):
            results.add({"module": name} | row)
        jax.clear_caches()


def differences(name: str, dtype: Any) -> Iterator[dict[str, Any]]:
    """A row a parameter of the module."""
    shape = (BATCH, SIZE, SIZE, 1 if name == "lifting" else P4.order, FEATURES)
    f = jax.random.normal(jax.random.key(0), shape, jnp.float32).astype(jnp.bfloat16)
    expected, got = (gradients(name, of, f) for of in (jnp.float32, dtype))
    least = LEAST * max(map(np.linalg.norm, expected.values()))
    for path, gradient in expected.items():
        difference = np.linalg.norm(got[path] - gradient) / max(np.linalg.norm(gradient), least)
        yield {"parameter": path, "numbers": gradient.size, "difference": float(difference)}


def gradients(name: str, dtype: Any, f: jax.Array) -> dict[str, np.ndarray]:
    """By the names of the parameters, which are drawn at random; computed in `dtype`, returned in float64."""
    graph, parameters, rest = nnx.split(MODULES[name](dtype=dtype, rngs=nnx.Rngs(0)), nnx.Param, ...)
    keys = iter(jax.random.split(jax.random.key(1), 64))
    drawn = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(next(keys), p.shape, p.dtype), parameters)
    parameters = jax.tree.map(lambda p: p.astype(jnp.bfloat16).astype(p.dtype), drawn)

    def loss(parameters):
        y = nnx.merge(graph, parameters, rest, copy=True)(f.astype(dtype))
        return jnp.mean((y.astype(jnp.float32) + 1) ** 2)

    leaves = jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(loss))(parameters))
    return {_named(path): np.asarray(leaf, np.float64) for path, leaf in leaves}


def _named(path):
    """As `weights.channel.w1`, without the attribute of `nnx.Param` that holds the array."""
    return jax.tree_util.keystr(path[:-1], simple=True, separator=".")


cli = command(main, Arguments)
