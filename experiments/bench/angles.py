"""Measures how well filters follow the angles that the pixels lack: `python -m experiments.bench.angles`.

Every way of sampling, by group and by the size of the filter: how many functions a filter is made of, the parameters of
a layer, and three errors, each the mean of random draws of the worst element. Inputs are waves of at most 1/8 cycle a
pixel.

    one layer   a lifting convolution. What a filter makes of a wave is known, so that nothing is sampled but the waves.
    exact       the same, of the elements that map the pixels to themselves: rounding.
    two layers  a lifting convolution, a ReLU and a group convolution, by `band_limited_error`; C8 alone. So with the
                ReLU oversampled; with stride 2 in the second layer, plain and antialiased; and with a maximum of 3x3
                pixels and stride 2 before it, plain, antialiased and smooth. With a stride images have 32 pixels more.

`--time` measures steps instead, which wants a machine that does nothing else.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attgconv_jax import FilterBasis, Group, Sampling, cyclic
from attgconv_jax.bases.grid import pixels
from attgconv_jax.filters import basis_of, disc, resampling_operator
from attgconv_jax.nn import GroupConv
from experiments.bench import common
from experiments.bench.angle_layers import BAND, LAYERS, WITHOUT_STRIDE, several_layers
from experiments.report.markdown import Column
from experiments.run.groups import parse_group
from experiments.run.runtime import command, use_compilation_cache

TOLERANCES = (0.003, 0.01, 0.03, 0.1)
LOWPASS = (None, 0.2)
SAMPLINGS = (
    Sampling("bilinear"),
    Sampling("cubic", disc_mask=True),
    *(Sampling("rings", lowpass=lowpass) for lowpass in LOWPASS),
    *(Sampling("least_error", tolerance=t, lowpass=lowpass) for t, lowpass in itertools.product(TOLERANCES, LOWPASS)),
)
FURTHER = (
    Sampling("bilinear"),
    *(Sampling(k, lowpass=lowpass) for k in ("rings", "least_error") for lowpass in LOWPASS),
)
"""With what two layers are measured with a stride, too."""
FREQUENCIES = 200
"""How many waves, of which one layer's error is the mean."""

# Of what is timed: 64 channels in and out, 8 an element of C8.
_TIMED = {"bilinear": Sampling("bilinear"), "least error": Sampling("least_error")}
_TIMED_SHAPE = (32, 28, 28, 8, 8)


def label(row: Mapping[str, Any]) -> str:
    """A way of sampling in words."""
    if row["kind"] == "least_error":
        kind = f"least error, {100 * row['tolerance']:g} %"
    else:
        kind = row["kind"] + (", disc" if row["disc_mask"] else "")
    return kind if row["lowpass"] is None else f"{kind}, low-pass {row['lowpass']:g}"


COLUMNS: dict[str, Column] = {
    "group": ("group", ""),
    "filter": ("kernel_size", ""),
    "sampling": (label, ""),
    "functions": ("functions", ""),
    "parameters": ("parameters", ","),
    "one layer": ("one_layer", ".1e"),
    "exact": ("exact", ".0e"),
    "two layers": ("relu", ".1e"),
    "oversampled": ("oversampled", ".1e"),
    "stride 2": ("stride", ".1e"),
    "antialiased": ("stride_antialiased", ".1e"),
    "max pooling": ("max_pool", ".1e"),
    "antialiased ": ("max_pool_antialiased", ".1e"),
    "smooth": ("smooth_max_pool", ".1e"),
    "floor": ("floor", ".0e"),
}
STEPS: dict[str, Column] = {
    "filter": ("kernel_size", ""),
    "sampling": ("sampling", ""),
    "step (ms)": ("step_ms", ".1f"),
    "relative to bilinear": ("ratio", ".2f"),
    "planned (MB)": ("planned_mb", ".1f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures how well filters follow the angles that the pixels lack."""

    groups: tuple[str, ...] = ("C8", "D8", "C3", "C5", "C6", "C12", "C16", "D6")
    """Which groups."""
    kernel_sizes: tuple[int, ...] = (3, 5, 7, 9)
    """Pixels along each axis of the filters."""
    larger_sizes: tuple[int, ...] = (11, 13, 15)
    """The same, of "least_error" alone, and of one layer."""
    draws: int = 3
    """Of filters and waves."""
    size: int = 65
    """Pixels along each axis of the images of two layers."""
    features: int = 4
    """Channels of two layers, for each group element."""
    time: bool = False
    """Whether to measure training steps of one layer instead: C8, 64 to 64 channels, 32 images of 28x28 pixels."""
    repeats: common.Repeats = 15


def main(arguments: Arguments) -> None:
    """Measures, prints a table and saves the figures."""
    use_compilation_cache()
    if arguments.time:
        results = common.Results("angle-steps", arguments.out, STEPS, rows=[])
        for size in arguments.kernel_sizes:
            for row in steps(size, arguments.repeats):
                results.add(row)
        return
    groups = [parse_group(name) for name in arguments.groups]
    settings = {name: getattr(arguments, name) for name in ("draws", "size", "features")}
    results = common.Results("angles", arguments.out, COLUMNS, **settings, band=BAND, rows=[])
    for group, size, sampling in _cases(groups, arguments):
        row = {"group": repr(group), "kernel_size": size, **dataclasses.asdict(sampling)}
        results.add(row | measured(group, size, sampling, arguments))


def _cases(groups, arguments) -> Iterator[tuple[Group, int, Sampling]]:
    for group in groups:
        yield from ((group, *case) for case in itertools.product(arguments.kernel_sizes, SAMPLINGS))
        least_error = [sampling for sampling in SAMPLINGS if sampling.kind == "least_error"]
        yield from ((group, *case) for case in itertools.product(arguments.larger_sizes, least_error))


def measured(group: Group, size: int, sampling: Sampling, arguments: Arguments) -> dict[str, Any]:
    """Functions, parameters and errors; all None where no function meets the tolerance."""
    figures = dict.fromkeys(("functions", "parameters", "one_layer", "exact", *LAYERS, "floor"))
    try:
        table = _table(group, size, sampling)
    except ValueError as error:
        if not str(error).startswith("tolerance"):
            raise
        return figures
    features = max(1, round(64 / group.order))
    layer = nnx.eval_shape(
        lambda: nnx.state(GroupConv(features, features, size, group, sampling=sampling, rngs=nnx.Rngs(0)), nnx.Param)
    )
    figures |= {
        "functions": _count(group, size, sampling),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(layer)),
    }
    errors = np.mean([_one_layer(table, group, seed) for seed in range(arguments.draws)], axis=0)
    figures |= dict(zip(("one_layer", "exact"), errors.tolist(), strict=True))
    if group == cyclic(8) and size in arguments.kernel_sizes:
        names = tuple(LAYERS) if sampling in FURTHER else WITHOUT_STRIDE
        settings = dict(draws=arguments.draws, pixels=arguments.size, features=arguments.features)
        figures |= several_layers(group, size, basis_of(group, size, sampling) or sampling, names, **settings)
    return figures


def _table(group, size, sampling):
    """Functions, or pixels, transformed by every element: `[g, u, j]`."""
    basis = basis_of(group, size, sampling)
    if isinstance(basis, FilterBasis):
        return basis.table
    operator = resampling_operator(group, size, sampling.kind)
    return operator * disc(size).ravel() if sampling.disc_mask else operator


def _count(group, size, sampling):
    """How many numbers make a filter on one channel of an image."""
    basis = basis_of(group, size, sampling)
    return len(basis) if basis else int(np.sum(disc(size))) if sampling.disc_mask else size**2


def _one_layer(table, group, seed):
    """The error of a lifting convolution with random filters: the worst element's, and of those that keep the pixels.

    A filter `psi` multiplies a wave `e^{2 pi i w x}` by `Psi(w) = sum over u of psi(u) e^{2 pi i w u}`, and `L_g` makes
    of it the wave `g w`. So a lifting convolution commutes with `g` if `Psi_h(g w) = Psi_{g^-1 h}(w)`.
    """
    generator = np.random.default_rng(seed)
    angle, radius = 2 * np.pi * generator.uniform(size=FREQUENCIES), np.sqrt(generator.uniform(size=FREQUENCIES))
    waves = BAND * radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    bank = table @ generator.normal(size=(table.shape[2], 4))
    grid = pixels(round(table.shape[1] ** 0.5))

    def responses(waves):
        phase = 2 * np.pi * waves @ grid.T
        filters = bank.swapaxes(0, 1).reshape(len(grid), -1)
        return (np.cos(phase) @ filters + 1j * (np.sin(phase) @ filters)).reshape(len(waves), *bank[:, 0].shape)

    plain = responses(waves)
    size = np.linalg.norm(plain)
    differences = [
        responses(waves @ matrix.T) - plain[:, action]
        for matrix, action in zip(group.matrices, group.action, strict=True)
    ]
    errors = np.array([np.linalg.norm(difference) for difference in differences]) / size
    return np.max(errors), np.max(errors[group.preserves_grid])


def steps(size: int, repeats: int) -> list[dict[str, Any]]:
    """The time of a convolution with the gradients of its input and parameters, and the memory that XLA plans."""
    group, features = cyclic(8), _TIMED_SHAPE[-1]
    f = jax.random.normal(jax.random.key(0), _TIMED_SHAPE)
    calls, memory = [], []
    for sampling in _TIMED.values():
        layer = GroupConv(features, features, size, group, padding=size // 2, sampling=sampling, rngs=nnx.Rngs(0))
        graph, parameters = nnx.split(layer)

        def loss(parameters, f, graph=graph):
            return jnp.sum(nnx.merge(graph, parameters)(f) ** 2)

        compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(parameters, f).compile()
        calls.append(lambda compiled=compiled, parameters=parameters: compiled(parameters, f))
        memory.append(common.planned_mb(compiled))
    milliseconds = [1e3 * seconds for seconds in common.median_seconds_in_turn(calls, repeats)]
    return [
        {"kernel_size": size, "sampling": name, "step_ms": ms, "ratio": ms / milliseconds[0], "planned_mb": planned}
        for name, ms, planned in zip(_TIMED, milliseconds, memory, strict=True)
    ]


cli = command(main, Arguments)
