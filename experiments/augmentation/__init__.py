"""Training images changed at random on the device, anew in every step: settings, and the function that changes them.

A kind of change is a function with a record, in one of the files here (see `Kind`); options of the command line, checks
and the order in which kinds are carried out follow from it.
"""

import dataclasses
import functools
import pathlib
import zlib
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import tyro
from jaxtyping import Array, Float, Int, Key

from experiments.augmentation import geometry, intensity, mixing  # noqa: F401 (they register their kinds)
from experiments.augmentation.kinds import KINDS, Kind
from experiments.run.checks import check

__all__ = ["KINDS", "AugmentConfig", "Kind", "Mixture", "augment"]

_PREVIEW = "Draws examples instead of training; without FILE beside the work directory."


class Mixture(NamedTuple):
    """What is mixed into pictures: its labels, and each picture's own share of the mixture, at least one half."""

    labels: Int[Array, " batch"]
    share: Float[Array, " batch"]


@dataclasses.dataclass(frozen=True)
class _Settings:
    preview: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE.png", help=_PREVIEW)] = None

    def __post_init__(self):
        for kind in KINDS.values():
            value = getattr(self, kind.name)
            check(f"augment.{kind.name}", value, kind.expected, kind.good(value))
        png = self.preview is None or self.preview.suffix == ".png"
        check("augment.preview", self.preview, "a file whose name ends in .png", png)

    @property
    def chosen(self) -> list[Kind]:
        """The kinds of change that these settings turn on, in the order of `KINDS`."""
        return [kind for kind in KINDS.values() if getattr(self, kind.name) != kind.default]


AugmentConfig = dataclasses.make_dataclass(
    "AugmentConfig",
    [
        (kind.name, Annotated[kind.type, tyro.conf.FlagConversionOff, tyro.conf.arg(help=kind.help)], kind.default)
        for kind in KINDS.values()
    ],
    bases=(_Settings,),
    frozen=True,
    kw_only=True,
)
AugmentConfig.__doc__ = "How training images are changed, at random and anew in every step."


def augment(
    key: Key[Array, ""],
    images: Float[Array, "batch x y 1 c"],
    labels: Int[Array, " batch"],
    config: AugmentConfig,
    background: Float[Array, "*c"] | float,
) -> tuple[Float[Array, "batch x y 1 c"], Mixture | None]:
    """A batch of standardised images, changed at random; and what was mixed in, if anything was.

    Flips, mirror images and quarter turns permute pixels; then comes the crop. Rotation, scale and shift are one affine
    map, interpolated once. Then come contrast, brightness, noise and cutout, and last mix-up. Which numbers a kind
    draws depends on the key and its name alone, not on which others are chosen.

    Args:
      key: of this step.
      images: standardised.
      labels: of the images.
      config: an `AugmentConfig`.
      background: what lies outside the images, a number or one per channel.
    """

    def chosen(site):
        return [kind for kind in config.chosen if kind.site == site]

    def drawn(kind, images, *more):
        stream = jax.random.fold_in(key, zlib.crc32(kind.name.encode()))
        return kind.apply(stream, images, getattr(config, kind.name), *more)

    for kind in chosen("permutation"):
        images = drawn(kind, images)
    for kind in chosen("crop"):
        images = drawn(kind, images, background)
    if maps := [drawn(kind, images) for kind in chosen("place")]:
        composed = functools.reduce(functools.partial(jnp.matmul, precision="highest"), maps)
        images = geometry.resample(images, composed, background)
    for kind in chosen("pixels"):
        images = drawn(kind, images)
    mixture = None
    for kind in chosen("mixture"):
        images, others, share = drawn(kind, images)
        mixture = Mixture(labels[others], share)
    return images, mixture
