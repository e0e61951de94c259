"""Kernel networks by name: one file each, with the formula, the initial weights and the record of both.

Another one, of this package or not, is a `KernelNetwork` in `NETWORKS`.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from attgconv_jax.checks import check_choice
from attgconv_jax.lie.groups import LieGroup
from attgconv_jax.lie.kernel_networks.base import Axes, KernelNetwork, Linear
from attgconv_jax.lie.kernel_networks.products import MULTIPLICATIVE
from attgconv_jax.lie.kernel_networks.sines import SIREN
from attgconv_jax.lie.kernel_networks.splines import B_SPLINE
from attgconv_jax.lie.kernel_networks.waves import FOURIER

__all__ = ["NETWORKS", "Axes", "KernelNetwork", "KernelNetworkName", "Linear", "check_network"]

NETWORKS = {network.name: network for network in (SIREN, FOURIER, MULTIPLICATIVE, B_SPLINE)}
KernelNetworkName = Literal[tuple(NETWORKS)]


def check_network(name: str, options: Mapping[str, Any] | None, group: LieGroup) -> dict[str, Any]:
    """The options as `python_numbers`; their ranges are checked by the network's `init`.

    Raises a `ValueError` unless there is this kernel network, and its options have an effect on kernels of the group.
    """
    check_choice("network", name, NETWORKS)
    options, known, needs = python_numbers(options), NETWORKS[name].options, NETWORKS[name].needs
    absent = [axis for axis, count in (("angle", group.angles), ("scale", group.scales)) if count is None]
    for option in options:
        if option not in known:
            raise ValueError(f"network_options of {name} are {', '.join(known)}; got {option!r}")
        if option.split("_")[0] in absent:
            raise ValueError(f"{option} has no effect on {group}; leave it out")
        if option in needs and options.get(needs[option]) == 0:
            raise ValueError(f"{option} has no effect without {needs[option].replace('_', ' ')}; leave it out")
    return options


def python_numbers(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options with Python's numbers for NumPy's, which would widen what they are multiplied with."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in (options or {}).items()}
