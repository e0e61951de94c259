"""How the kernel of a convolution comes in factors: the kinds of convolutions on Lie groups."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from attgconv_jax.checks import check_boolean, check_choice
from attgconv_jax.kernels.settings import Dense, Depthwise
from attgconv_jax.lie import convolution as conv
from attgconv_jax.lie import product_convolution as product
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.kernel_networks import Axes

Domain = Literal["plane", "group", "rotations", "scales", "plane and group"]


class Factor(NamedTuple):
    """A factor of a kernel: a function on `domain`, for every pair of channels with `pairs`, else for every output."""

    domain: Domain
    pairs: bool

    def axes(self, group: LieGroup, coordinates: str) -> Axes:
        """The coordinates of its kernel network."""
        on_group = "group" in self.domain
        angle = self.domain == "rotations" or (on_group and group.angles is not None)
        return Axes(
            plane="plane" in self.domain,
            angle=(2 if coordinates == "periodic" else 1) * angle,
            scale=self.domain == "scales" or (on_group and group.scales is not None),
        )


class Kind(NamedTuple):
    """How a kernel comes in factors: `conv` takes `f`, with `projection` a matrix over the channels and the factors."""

    name: str
    conv: Callable
    factors: tuple[Factor, ...]
    projection: bool = False

    @property
    def implementations(self) -> tuple[str, ...]:
        """Names of those of its convolution, which is depthwise where a kernel on the plane comes last."""
        return get_args(Depthwise if self.factors[-1] == Factor("plane", pairs=False) else Dense)


LIFTING = Kind("lifting", conv.nonseparable_conv, (Factor("plane", True),))
"""Of images, which have no group axis: there is nothing to factor."""

_2D = "rotations", "scales", "plane"
_KINDS = (
    Kind("nonseparable", conv.nonseparable_conv, (Factor("plane and group", True),)),
    Kind("gseparable", conv.gseparable_conv, (Factor("group", True), Factor("plane", True))),
    Kind("separable", conv.separable_conv, (Factor("group", True), Factor("plane", False))),
    Kind("dseparable", conv.dseparable_conv, (Factor("plane and group", False),), projection=True),
    Kind("dgseparable", conv.dgseparable_conv, (Factor("group", False), Factor("plane", False)), projection=True),
    Kind("separable+2d", product.separable_2d_conv, tuple(map(Factor, _2D, (True, False, False)))),
    Kind("gseparable+2d", product.gseparable_2d_conv, tuple(map(Factor, _2D, (True, True, True)))),
)
KINDS = {kind.name: kind for kind in _KINDS}
"""Of feature maps, by name."""


def check_kind(kind: str | None, group: LieGroup, lifting: bool = False) -> Kind:
    """The kind of this name, "separable" without one, or that of images; a `ValueError` unless the group has it."""
    check_boolean(lifting=lifting)
    if lifting:
        if kind is not None:
            raise ValueError(
                "kind must be left out where images are lifted (lifting=True, in_grid=None), which have no group axis "
                f"to factor; got {kind!r}"
            )
        return LIFTING
    kind = "separable" if kind is None else kind
    check_choice("kind", kind, KINDS)
    if kind.endswith("+2d") and (group.angles is None or group.scales is None):
        raise ValueError(f"kind must be {kind[:-3]} on {group}, which has no rotations or no scales; got {kind!r}")
    return KINDS[kind]
