"""The groups that a command line names."""

import re

from attgconv_jax import Group, cyclic, dihedral, trivial
from attgconv_jax.lie import LieGroup, rotations, scalings, similarities


def parse_group(name: str, field: str = "group") -> Group:
    """The group of this name: z2, p4, p4m, or any other as C8 or D2; a `ValueError` if there is none.

    In Python groups are called `trivial()`, `cyclic(8)`, `dihedral(2)`; these names work too, also as `cyclic-8`.
    """
    named = {"z2": trivial(), "trivial": trivial(), "trivial()": trivial(), "p4": cyclic(4), "p4m": dihedral(4)}
    if name in named:
        return named[name]
    match = re.fullmatch(r"(C|D|cyclic[-(]?|dihedral[-(]?)([1-9]\d*)\)?", name)
    if match is None:
        raise ValueError(
            f"{field} must be z2, p4, p4m, or like C8 (cyclic(8), rotations) or D2 (dihedral(2), also reflections); "
            f"Lie groups of networks are like SE2-8, R2xR-3, Sim2-16x3; got {name!r}"
        )
    make = cyclic if match[1].lower().startswith("c") else dihedral
    return make(int(match[2]))


def is_lie(name: str) -> bool:
    """Whether a name is that of a Lie group."""
    return name.startswith(("SE2-", "R2xR-", "Sim2-"))


def parse_lie_group(name: str, max_scale: float) -> LieGroup | None:
    """The Lie group of this name: SE2-8, R2xR-3 or Sim2-16x3, with any numbers; None of any other name.

    The numbers are of sampled rotations and scales, `max_scale` is the largest scale, of groups that scale.
    """
    match = re.fullmatch(r"(SE2|R2xR)-([1-9]\d*)|(Sim2)-([1-9]\d*)x([1-9]\d*)", name)
    if match is None:
        return None
    if match[3]:
        return similarities(int(match[4]), int(match[5]), max_scale)
    return rotations(int(match[2])) if match[1] == "SE2" else scalings(int(match[2]), max_scale)
