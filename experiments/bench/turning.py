"""Measures what a turn by 45 degrees does to the logits of networks: `python -m experiments.bench.turning`.

Random networks, initialised by `he_normal`, with every attention they take, on handwritten digits of 8x8 pixels which
are turned and enlarged at once by cubic splines: a digit is known between the pixels, and nothing is turned that was
sampled before. The change is the root mean square of the logits' difference relative to that of the logits, the mean
over draws of the weights. `layers` are ten convolutions of 5x5 pixels with ReLUs, then the means of their maps.

A network is measured fresh, where a dark background stays 0 in all layers, and settled: its batch norms have the
statistics of the upright digits, so that backgrounds are not 0, and the square border of the padding shows, but in
networks with `masked`.

`--time` measures training steps of `rot_mnist` with filters of 5x5 pixels instead, which wants a quiet machine.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from attgconv_jax import Group, Sampling, circular_mask, project_max
from attgconv_jax.attention import OPERATORS
from attgconv_jax.models import AllCNN, ResNet, RotMNISTNet
from attgconv_jax.nn import GroupConv
from attgconv_jax.nn.nonlinearity import relu
from experiments.bench import common
from experiments.data.rotation import turned
from experiments.report.markdown import Column
from experiments.run.checks import check, chosen
from experiments.run.groups import parse_group
from experiments.run.runtime import command, use_compilation_cache

VARIANTS: dict[str, dict[str, Any]] = {
    "bilinear": dict(sampling=Sampling("bilinear")),
    "default": {},
    "smooth": dict(antialiased=True, oversampled=True),
    "masked": dict(antialiased=True, oversampled=True, masked=True),
}
"""Former default, default, the default with what does not alias, and then with circular masks as well."""
STATES = ("fresh", "settled")


class Layers(nnx.Module):
    """Ten convolutions with ReLUs, and the means of what they leave."""

    def __init__(
        self,
        group: Group,
        features: int,
        rngs: nnx.Rngs,
        *,
        oversampled: bool = False,
        masked: bool = False,
        **options: Any,
    ):
        widths = [1, *[features] * 10]
        self.oversampled, self.masked = oversampled, masked
        options = dict(padding=2, rngs=rngs) | options
        self.convolutions = nnx.List(
            GroupConv(*widths[i : i + 2], 5, group, lifting=i == 0, **options) for i in range(10)
        )

    def __call__(self, f: Float[Array, "batch x y 1 1"]) -> Float[Array, "batch features"]:
        """Means of the last maps, of the group the largest."""
        f = circular_mask(f) if self.masked else f
        for convolution in self.convolutions:
            f = relu(convolution(f), self.oversampled, self.masked)
        return jnp.mean(project_max(f), axis=(-4, -3, -2))


def _layers(group, attention, features, **options):
    if attention is not None:
        raise ValueError(f"attention must be None, got {attention!r}")
    return Layers(group, features, **options)


def _rot_mnist(group, attention, features, **options):
    return RotMNISTNet(group, attention, features=features, dropout_rate=0.0, kernel_init="he_normal", **options)


def _all_cnn(group, attention, features, **options):
    settings = dict(dropout_rate=0.0, input_dropout_rate=0.0, kernel_init="he_normal")
    return AllCNN(group, attention, features=features, in_features=1, **settings, **options)


def _resnet(group, attention, features, **options):
    depth = 50 if attention == "sk" else 18
    return ResNet(depth, group, attention, features=features, in_features=1, classes=10, **options)


NETWORKS: dict[str, tuple[Callable, int, int]] = {
    "layers": (_layers, 69, 20),
    "rot_mnist": (_rot_mnist, 28, 20),
    "all_cnn": (_all_cnn, 32, 20),
    "resnet": (_resnet, 65, 40),
}
"""By name: the network, and pixels along each axis of its images and of the digits in them."""

COLUMNS: dict[str, Column] = {
    "network": ("network", ""),
    "group": ("group", ""),
    "attention": ("attention", ""),
    **{
        f"{state}, {variant}": (lambda row, state=state, variant=variant: row[state][variant], ".1e")
        for state in STATES
        for variant in VARIANTS
    },
    **{f"{state}, bilinear / masked": (lambda row, state=state: _ratio(row[state]), ".1f") for state in STATES},
}


STEPS: dict[str, Column] = {
    "group": ("group", ""),
    "network": ("variant", ""),
    "step (ms)": ("step_ms", ".0f"),
    "relative to bilinear": ("ratio", ".2f"),
    "planned (MB)": ("planned_mb", ".0f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures what a turn by 45 degrees does to the logits of networks."""

    groups: tuple[str, ...] = ("C8", "D8")
    """Which groups, with turns by 45 degrees among their elements."""
    networks: common.Networks = ()
    attentions: tuple[str, ...] = ()
    """Which kinds. Default: none, and all that a network takes."""
    features: int = 6
    """Channels of the first layer, for each group element."""
    images: int = 8
    """Digits."""
    draws: int = 2
    """Of the weights; the mean counts."""
    time: bool = False
    """Whether to measure training steps instead, of 64 images."""
    repeats: common.Repeats = 9

    def __post_init__(self):
        super().__post_init__()
        for name in self.groups:
            group = parse_group(name)
            check("groups", name, "groups with turns by 45 degrees, such as C8, C16 or D8", group.rotations % 8 == 0)


def main(arguments: Arguments) -> None:
    """Measures, prints a table and saves the figures."""
    use_compilation_cache()
    if arguments.time:
        results = common.Results("turning-steps", arguments.out, STEPS, rows=[])
        for group in arguments.groups:
            for row in steps(parse_group(group), arguments.features, arguments.repeats):
                results.add({"group": group, **row})
        return
    networks = chosen("networks", arguments.networks, NETWORKS)
    known = ["none", *OPERATORS]
    attentions = chosen("attentions", arguments.attentions, known)
    settings = {name: getattr(arguments, name) for name in ("features", "images", "draws")}
    results = common.Results("turning", arguments.out, COLUMNS, **settings, rows=[])
    for network, name, attention in itertools.product(networks, arguments.groups, attentions):
        changes = measured(network, parse_group(name), attention, **settings)
        if changes is not None:
            results.add({"network": network, "group": name, "attention": attention, **changes})
        jax.clear_caches()


def measured(
    network: str, group: Group, attention: str, *, features: int, images: int, draws: int
) -> Mapping[str, Mapping[str, float]] | None:
    """The change by state and variant; None, and why, if the network cannot have the attention."""
    make, size, side = NETWORKS[network]
    attention = None if attention == "none" else attention
    pair = jnp.concatenate([digits(size, side, images), digits(size, side, images, np.pi / 4)])
    changes = {state: {} for state in STATES}
    for variant, options in VARIANTS.items():
        of_draws = []
        for seed in range(draws):
            try:
                built = make(group, attention, features, rngs=nnx.Rngs(seed), **options)
            except ValueError as error:
                if attention is None:
                    raise
                print(f"{network}, {attention}: {error}", flush=True)
                return None
            built.eval()
            fresh = _change(built, pair)
            _settle(built, pair[:images])
            of_draws.append([fresh, _change(built, pair)])
        for state, change in zip(STATES, np.mean(of_draws, axis=0).tolist(), strict=True):
            changes[state][variant] = change
    return changes


def _change(network, pair):
    plain, moved = np.split(np.asarray(_logits(network, pair), np.float64), 2)
    return np.linalg.norm(moved - plain) / np.linalg.norm(plain)


def _ratio(changes):
    return changes["bilinear"] / changes["masked"]


def digits(size: int, side: int, count: int, angle: float = 0.0) -> Float[Array, "image x y 1 1"]:
    """The first handwritten digits of scikit-learn, turned, in the middle of images of `size` pixels."""
    # It takes two seconds to import, and other measurements do without.
    from sklearn.datasets import load_digits  # noqa: PLC0415

    images = [turned(image / 16, angle, size, side) for image in load_digits().images[:count]]
    return jnp.asarray(np.clip(images, 0, 1)[..., None, None], jnp.float32)


def _settle(network, images):
    """Gives batch norms the statistics of these images, and leaves the network in evaluation mode."""
    network.train()
    for _, module in nnx.iter_modules(network):
        if isinstance(module, nnx.BatchNorm):
            module.momentum = 0
    _logits(network, images)
    network.eval()


def steps(group: Group, features: int, repeats: int) -> list[dict[str, Any]]:
    """The time of a loss and its gradients by variant, in turn, and the memory that XLA plans."""
    variants = VARIANTS | {"antialiased": dict(antialiased=True)}
    images = jax.random.normal(jax.random.key(0), (64, 28, 28, 1, 1), jnp.float32)
    calls, memory = [], []
    for options in variants.values():
        network = _rot_mnist(group, None, features, kernel_size=5, rngs=nnx.Rngs(0), **options)
        graph, parameters, rest = nnx.split(network, nnx.Param, ...)

        def loss(parameters, rest, images, graph=graph):
            return jnp.mean(nnx.merge(graph, parameters, rest, copy=True)(images) ** 2)

        compiled = jax.jit(jax.grad(loss)).lower(parameters, rest, images).compile()
        calls.append(lambda compiled=compiled, arguments=(parameters, rest, images): compiled(*arguments))
        memory.append(common.planned_mb(compiled))
    milliseconds = [1e3 * seconds for seconds in common.median_seconds_in_turn(calls, repeats)]
    return [
        {"variant": name, "step_ms": ms, "ratio": ms / milliseconds[0], "planned_mb": planned}
        for name, ms, planned in zip(variants, milliseconds, memory, strict=True)
    ]


@nnx.jit
def _logits(network, images):
    return network(images)


cli = command(main, Arguments)
