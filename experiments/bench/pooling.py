"""What maximum pooling costs before it runs: `python -m experiments.bench.pooling`.

For windows of 2 to 56 pixels and strides of 1, 2, 3 and the window's own: seconds to compile the maxima, and the maxima
with the gradient, of feature maps of 56x56 pixels, and temporary arrays as XLA plans them, in units of the input; and
the same by `lax.reduce_window`. A compilation that takes longer than `--limit` is ended, and has no figures. Nothing is
run. Saved as JSON.

Another revision of the library is measured by this file in its stead:

    mkdir former && git archive REVISION attgconv_jax experiments | tar -x -C former
    cp experiments/bench/{pooling,eager,memory}.py former/experiments/bench
    cd former && python -m experiments.bench.pooling
"""

import dataclasses
import itertools
import math
import multiprocessing
import time
from collections.abc import Callable
from typing import Annotated

import jax
import jax.numpy as jnp
import tyro
from jax import lax

from attgconv_jax import cyclic, max_pool
from experiments.bench import common
from experiments.report.markdown import Column
from experiments.run.checks import check
from experiments.run.runtime import command

SHAPE = 32, 56, 56, 4, 8
WINDOWS = (2, 3, 7, 14, 28, 56)
STRIDES = (1, 2, 3)


def pooled(f, window, stride):
    """By this library."""
    return max_pool(f, cyclic(4), window=window, stride=stride, exact=False)


def reduced(f, window, stride):
    """By `lax.reduce_window`."""
    return lax.reduce_window(f, -jnp.inf, lax.max, (1, window, window, 1, 1), (1, stride, stride, 1, 1), "VALID")


POOLINGS: dict[str, Callable] = {"max_pool": pooled, "reduce_window": reduced}

COLUMNS: dict[str, Column] = {
    "window": ("window", ""),
    "stride": ("stride", ""),
    "by": ("by", ""),
    "compile (s)": ("compile_s", ".2f"),
    "temporary (inputs)": ("temporary_inputs", ".2f"),
    "with gradient: compile (s)": ("gradient_compile_s", ".2f"),
    "temporary, with gradient (inputs)": ("gradient_temporary_inputs", ".2f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures what maximum pooling takes to compile, and its temporary arrays."""

    windows: Annotated[tuple[int, ...], tyro.conf.arg(help="Sizes in pixels, up to 56.")] = WINDOWS
    limit: Annotated[int, tyro.conf.arg(help="Seconds that a compilation may take.")] = 150

    def __post_init__(self):
        super().__post_init__()
        for window in self.windows:
            check("windows", window, f"at most {SHAPE[1]}, the pixels of the feature maps", window <= SHAPE[1])


def main(arguments: Arguments) -> None:
    """Compiles all poolings, prints a table and saves the figures."""
    results = common.Results("pooling", arguments.out, COLUMNS, shape=SHAPE, limit_s=arguments.limit, rows=[])
    with Compiler(arguments.limit) as compiler:
        for window in arguments.windows:
            for stride, name in itertools.product(sorted({*STRIDES, window}), POOLINGS):
                row = {"window": window, "stride": stride, "by": name}
                for prefix, gradient in (("", False), ("gradient_", True)):
                    seconds, inputs = compiler(name, window, stride, gradient)
                    row |= {f"{prefix}compile_s": seconds, f"{prefix}temporary_inputs": inputs}
                results.add(row)


class Compiler:
    """A process that compiles what it is told, replaced by another where it takes too long."""

    def __init__(self, limit: int):
        self.limit, self.pool = limit, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._end()

    def __call__(self, *case) -> tuple[float | None, float | None]:
        """The figures of `compile_cost`, or None for each."""
        if self.pool is None:
            self.pool = multiprocessing.get_context("spawn").Pool(1)
            # Imports, and what XLA sets up once.
            self.pool.apply(compile_cost, ("reduce_window", 2, 2, True))
        try:
            return self.pool.apply_async(compile_cost, case).get(self.limit)
        except multiprocessing.TimeoutError:
            self._end()
            return None, None

    def _end(self):
        if self.pool is not None:
            self.pool.terminate()
            self.pool.join()
            self.pool = None


def compile_cost(name: str, window: int, stride: int, gradient: bool) -> tuple[float, float]:
    """Seconds to trace and to compile a pooling, and its temporary arrays over its input."""

    def pooling(f):
        return POOLINGS[name](f, window, stride)

    def with_gradient(f, cotangent):
        out, backward = jax.vjp(pooling, f)
        return out, backward(cotangent)

    jax.config.update("jax_enable_compilation_cache", False)
    f = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
    program, arrays = (with_gradient, (f, jax.eval_shape(pooling, f))) if gradient else (pooling, (f,))
    started = time.perf_counter()
    compiled = jax.jit(program).lower(*arrays).compile()
    seconds = time.perf_counter() - started
    return seconds, compiled.memory_analysis().temp_size_in_bytes / (f.dtype.itemsize * math.prod(f.shape))


cli = command(main, Arguments)
