"""Measures what interpolation costs in equivariance: `python -m experiments.bench.interpolation`.

Groups with other than right angles resample their filters, and turning the test images is itself a resampling. The
error is that of `equivariance_error` on digits, over all elements of the group: of a lifting layer and a group
convolution with relus (5x5 filters, random), and of the logits of a freshly initialised rot-MNIST network.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from flax import nnx

from attgconv_jax import Group, Sampling, equivariance_error
from attgconv_jax.models import RotMNISTNet
from attgconv_jax.nn import GroupConv
from experiments.bench import common
from experiments.data import rotated_digits
from experiments.report.markdown import Column
from experiments.run.groups import parse_group
from experiments.run.runtime import command, use_compilation_cache

SAMPLINGS = [Sampling(kind, disc_mask) for kind in ("bilinear", "cubic") for disc_mask in (False, True)]
EXACT = 1e-5
"""Errors below are of rounding."""

COLUMNS: dict[str, Column] = {
    "group": ("group", ""),
    "interpolation": (lambda row: "exact" if row["two_layers"] < EXACT else row["interpolation"], ""),
    "disc mask": (lambda row: "yes" if row["disc_mask"] else "no", ""),
    "two layers": ("two_layers", ".1e"),
    "network's logits": ("network", ".1e"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures what interpolation costs in equivariance."""

    groups: tuple[str, ...] = ("p4", "p4m", "C8", "C16", "D8")
    """Which groups."""
    images: int = 16
    """Test digits to measure on."""


def main(arguments: Arguments) -> None:
    """Measures, prints a table and saves the figures."""
    groups = [parse_group(name) for name in arguments.groups]
    use_compilation_cache()
    images = jnp.asarray(rotated_digits(0).test.images[: arguments.images])
    results = common.Results("interpolation", arguments.out, COLUMNS, images=arguments.images, rows=[])
    for group, sampling in itertools.product(groups, SAMPLINGS):
        plain = sampling == SAMPLINGS[0]
        if plain or not group.is_exact:
            row = {"group": repr(group), "interpolation": sampling.kind, "disc_mask": sampling.disc_mask}
            row["two_layers"] = two_layers_error(group, images, sampling)
            row["network"] = network_error(group, images, sampling) if plain else None
            results.add(row)


def two_layers_error(group: Group, images: jax.Array, sampling: Sampling) -> float:
    """The equivariance error of a lifting layer and a group convolution, as feature maps."""
    options = dict(padding=2, sampling=sampling, rngs=nnx.Rngs(0))
    lift = GroupConv(1, 8, 5, group, lifting=True, **options)
    conv = GroupConv(8, 8, 5, group, **options)
    return equivariance_error(jax.jit(lambda f: jax.nn.relu(conv(jax.nn.relu(lift(f))))), images, group)


def network_error(group: Group, images: jax.Array, sampling: Sampling) -> float:
    """The equivariance error of the logits of a freshly initialised network."""
    network = RotMNISTNet(group, sampling=sampling, rngs=nnx.Rngs(0))
    network.eval()
    return equivariance_error(jax.jit(network), images, group, output="invariant")


cli = command(main, Arguments)
