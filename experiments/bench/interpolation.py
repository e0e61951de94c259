"""Measures what interpolation costs in equivariance: `python -m experiments.bench.interpolation`.

Groups with other than right angles resample their filters, and turning the test images is itself a resampling. The
error is that of `equivariance_error` on digits, over all elements of the group: of a lifting layer and a group
convolution with relus (5x5 filters, random), and of the logits of a freshly initialised rot-MNIST network.
"""

import dataclasses
import itertools
import json
import pathlib
import time

import jax
import jax.numpy as jnp
from flax import nnx

from attgconv_jax import Group, equivariance_error
from attgconv_jax.models import RotMNISTNet
from attgconv_jax.nn import GroupConv
from experiments.data import rotated_digits
from experiments.run.groups import parse_group
from experiments.run.runtime import describe_device, new_file, run, use_compilation_cache


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Measures what interpolation costs in equivariance."""

    groups: tuple[str, ...] = ("p4", "p4m", "C8", "C16", "D8")
    """Which groups."""

    images: int = 16
    """Test digits to measure on."""

    out: pathlib.Path = pathlib.Path("experiments/results/interpolation.json")
    """File for the figures; an existing one is replaced."""


def main(arguments: Arguments) -> None:
    """Measures, prints a table and saves the figures."""
    if arguments.images < 1:
        raise ValueError(f"images must be at least 1, got {arguments.images}")
    groups = [parse_group(name) for name in arguments.groups]
    new_file(arguments.out)
    use_compilation_cache()
    images = jnp.asarray(rotated_digits(0).test.images[: arguments.images])
    rows = []
    print("| group | interpolation | disc mask | two layers | network's logits |")
    print("|---|---|---|---|---|")
    for group, interpolation, disc_mask in itertools.product(groups, ("bilinear", "cubic"), (False, True)):
        if group.is_exact and (interpolation != "bilinear" or disc_mask):
            continue
        row = {"group": repr(group), "interpolation": interpolation, "disc_mask": disc_mask}
        row["two_layers"] = two_layers_error(group, images, interpolation, disc_mask)
        plain = interpolation == "bilinear" and not disc_mask
        row["network"] = network_error(group, images) if plain else None
        rows.append(row)
        network = f"{row['network']:.1e}" if plain else ""
        kind = "exact" if group.is_exact else interpolation
        print(
            f"| {group} | {kind} | {'yes' if disc_mask else 'no'} | {row['two_layers']:.1e} | {network} |", flush=True
        )
    results = {"date": time.strftime("%Y-%m-%d"), **describe_device(), "images": arguments.images, "rows": rows}
    arguments.out.write_text(json.dumps(results, indent=2) + "\n")


def two_layers_error(group: Group, images: jax.Array, interpolation: str, disc_mask: bool) -> float:
    """The equivariance error of a lifting layer and a group convolution, as feature maps."""
    options = dict(padding=2, interpolation=interpolation, disc_mask=disc_mask, rngs=nnx.Rngs(0))
    lift = GroupConv(1, 8, 5, group, lifting=True, **options)
    conv = GroupConv(8, 8, 5, group, **options)
    return equivariance_error(jax.jit(lambda f: jax.nn.relu(conv(jax.nn.relu(lift(f))))), images, group)


def network_error(group: Group, images: jax.Array) -> float:
    """The equivariance error of the logits of a freshly initialised network."""
    network = RotMNISTNet(group, rngs=nnx.Rngs(0))
    network.eval()
    return equivariance_error(jax.jit(network), images, group, output="invariant")


def cli(arguments: list[str] | None = None) -> None:
    """The command line; what the user got wrong is one line on stderr and exit code 2."""
    run(main, Arguments, arguments, prog="python -m experiments.bench.interpolation")


if __name__ == "__main__":
    cli()
