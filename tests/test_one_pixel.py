"""The separable paper's filters of one pixel, in its own coordinates: its shortcuts.

`fixtures/one_pixel.npz` was written by `fixtures/one_pixel.py.txt`.
"""

import functools
import pathlib

import jax
import numpy as np
import pytest
from helpers import assert_close
from lie_reference import lie_weights
from test_lie_reference import GROUPS, to_feature_map

from attgconv_jax.lie import lie_conv, siren

ONE_PIXEL = np.load(pathlib.Path(__file__).parent / "fixtures/one_pixel.npz")


@pytest.mark.parametrize("name", sorted({key.split("/")[0] for key in ONE_PIXEL.files}))
def test_filters_of_one_pixel_are_the_papers_on_groups_with_scales(name):
    """Their kernels on the plane are evaluated at the corner of a larger filter."""
    data = {key.removeprefix(f"{name}/"): ONE_PIXEL[key] for key in ONE_PIXEL.files if key.startswith(f"{name}/")}
    group, kind = GROUPS[name.split()[0]], name.split()[1]
    f, grid = to_feature_map(data["input"]), group.grid()

    def under(prefix):
        return lie_weights({key.removeprefix(prefix): array for key, array in data.items()}, "", kind, f.shape[-1])

    def conv(f, weights):
        network = functools.partial(siren, first_frequency=10.0, frequency=10.0)
        return lie_conv(f, weights, group, grid, grid, 1, kind, network=network, coordinates="paper")

    @jax.jit
    def output_and_gradients(f, weights, cotangent):
        output, vjp = jax.vjp(conv, f, weights)
        return output, vjp(cotangent)

    output, gradients = output_and_gradients(f, under("state/"), to_feature_map(data["cotangent"]))
    assert_close(output, to_feature_map(data["output"]), 1e-5)
    expected = to_feature_map(data["grad/input"]), under("grad/")
    for actual, wanted in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        assert_close(actual, wanted, 1e-5)
