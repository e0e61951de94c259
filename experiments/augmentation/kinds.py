"""What an augmentation is: a record, from which the command line, its checks and the order follow."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from jaxtyping import Array, Float

Images = Float[Array, "batch x y 1 c"]
Site = Literal["permutation", "crop", "place", "pixels", "mixture"]


class Kind(NamedTuple):
    """One way to change training pictures at random: a pure function of a key, a batch and a setting, and its record.

    Attributes:
      name: on the command line, `--augment.NAME`; decides the random stream as well.
      apply: `(key, images, value)`, of site "crop" `(key, images, value, background)`; what it returns depends on the
        site.
      site: sites follow each other in this order. "permutation" and "crop" move pixels to pixels, and return images;
        what a crop brings into view is the background, a number or one per channel. "place" returns for each image an
        affine map `[batch, 3, 3]`, from places in the changed picture to places in the image, in pixels from the
        centre; all such maps are carried out in one interpolation. "pixels" changes values, and returns images.
        "mixture" returns images, the index of what is mixed into each, and each image's own share, at least one half;
        one of this site at a time.
      type: of the setting.
      default: the setting that changes nothing.
      expected: what the setting must be, in words.
      good: whether a setting is.
      help: of the command line, with the unit.
    """

    name: str
    apply: Callable[..., Any]
    site: Site
    type: Any
    default: Any
    expected: str
    good: Callable[[Any], bool]
    help: str


KINDS: dict[str, Kind] = {}
"""The augmentations by name, in the order in which those of one site are carried out; filled by `register`."""


def register(name: str, site: Site, **record: Any) -> Callable[[Callable], Callable]:
    """Decorates the function of an augmentation, which then is a choice of the command line; `record`: see `Kind`."""

    def decorate(function):
        KINDS[name] = Kind(name, function, site, **record)
        return function

    return decorate


def up_to(limit: float) -> dict[str, Any]:
    """Of a record: a number in 0 to `limit`, 0 changing nothing."""
    return dict(type=float, default=0.0, expected=f"in 0 to {limit:g}", good=lambda value: 0 <= value <= limit)


def yes_or_no() -> dict[str, Any]:
    """Of a record: True or False, False changing nothing."""
    return dict(type=bool, default=False, expected="True or False", good=lambda value: isinstance(value, bool))
