"""Sampling grids, exhaustively: what is accepted is what the formula and the positions of all taps call symmetric."""

import functools
import itertools
import re

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import oracles
import pytest
from helpers import EXACT_GROUPS, INTERPOLATED_GROUPS, assert_refused, random

from attgconv_jax import cyclic, dihedral, group_conv, max_pool, trivial
from attgconv_jax.geometry import check_symmetric_grid, windows_of

LENGTHS = range(1, 12)
SIZES, STRIDES, PADDINGS, DILATIONS = (1, 2, 3, 4, 5), (1, 2, 3, 4), (0, 1, 2, 3, "SAME", "VALID"), (1, 2, 3)
GRIDS = list(itertools.product(LENGTHS, SIZES, STRIDES, PADDINGS, DILATIONS))


def pads_of(length, size, stride, padding, dilation):
    return oracles.paddings((length,), size, stride, padding, dilation)[0]


def fits(length, size, stride, padding, dilation):
    return length + sum(pads_of(length, size, stride, padding, dilation)) >= dilation * (size - 1) + 1


def is_symmetric(length, size, stride, padding, dilation):
    """`(length + 2 pad - dilation (k - 1) - 1) mod stride == 0`, with as much padding at the end as at the start."""
    low, high = pads_of(length, size, stride, padding, dilation)
    return low == high and (length + 2 * low - dilation * (size - 1) - 1) % stride == 0


@functools.cache
def is_reversed(group, axis):
    return any(not np.allclose(matrix[:, axis], np.eye(2)[axis]) for matrix in oracles.elements(group))


def is_accepted(group, shape, size, stride, padding, dilation):
    return all(
        is_symmetric(length, size, stride, padding, dilation)
        for axis, length in enumerate(shape)
        if is_reversed(group, axis)
    )


def pixels_read(length, size, stride, padding, dilation):
    """For every output, for every tap: the pixel it reads, None in the padding."""
    low, high = pads_of(length, size, stride, padding, dilation)
    starts = range(-low, length + high - dilation * (size - 1), stride)
    positions = [[start + a * dilation for a in range(size)] for start in starts]
    return [[pixel if 0 <= pixel < length else None for pixel in taps] for taps in positions]


def reversed_reading(reading, length):
    return [[None if pixel is None else length - 1 - pixel for pixel in taps[::-1]] for taps in reading[::-1]]


def decision(group, shape, size, stride, padding, dilation):
    """None if the grid is accepted, else the message."""
    windows = windows_of(size, stride, padding, dilation, shape)
    try:
        check_symmetric_grid(windows, group, shape, padding)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("group", EXACT_GROUPS + INTERPOLATED_GROUPS, ids=str)
def test_accepted_grids_are_those_of_the_formula(group):
    for length, *settings in GRIDS:
        # The other axis is symmetric in one case and, mostly, not in the other.
        for shape in ((length, 2 * length), (length, length)):
            if not all(fits(n, *settings) for n in shape):
                continue
            accepted = decision(group, shape, *settings) is None
            assert accepted == is_accepted(group, shape, *settings), (shape, settings)


def test_no_grid_is_refused_or_accepted_without_cause():
    """A grid is symmetric if the flipped image is read by the flipped taps of the flipped outputs."""
    causes = set()
    for length, *settings in GRIDS:
        if not fits(length, *settings):
            continue
        reading = pixels_read(length, *settings)
        # A window that reads nothing but padding gives zeros, wherever it stands.
        if all(pixel is None for taps in reading for pixel in taps):
            continue
        symmetric = reading == reversed_reading(reading, length)
        assert (decision(cyclic(4), (length, length), *settings) is None) == symmetric, (length, settings)
        causes.add(symmetric)
    assert causes == {True, False}


def test_number_of_outputs_is_that_of_the_positions():
    for length, *settings in GRIDS:
        if fits(length, *settings):
            windows = windows_of(*settings, (length, length))
            expected = len(pixels_read(length, *settings))
            assert [window.outputs(length) for window in windows] == [expected, expected]


def test_same_padding_gives_one_output_a_stride():
    for length, size, stride, dilation in itertools.product(LENGTHS, SIZES, STRIDES, DILATIONS):
        window, _ = windows_of(size, stride, "SAME", dilation, (length, length))
        assert window.outputs(length) == -(-length // stride)
        assert 0 <= window.high - window.low <= 1


def test_advised_sizes_are_accepted_and_advice_is_missing_only_where_none_helps():
    seen = set()
    for length, *settings in GRIDS:
        if not fits(length, *settings):
            continue
        message = decision(cyclic(4), (length, length), *settings)
        if message is None:
            continue
        advice = re.search(r"Sizes that work: ([\d, ]+);", message)
        seen.add(advice is not None)
        if advice:
            sizes = [int(n) for n in advice[1].split(", ")]
            assert length not in sizes
            assert all(fits(n, *settings) and is_symmetric(n, *settings) for n in sizes), (length, settings, message)
        else:
            assert "No size works" in message
            assert not any(is_symmetric(n, *settings) for n in range(1, 40)), (length, settings)
    assert seen == {True, False}


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    group=st.sampled_from(EXACT_GROUPS + INTERPOLATED_GROUPS),
    grid=st.sampled_from(GRIDS),
    other=st.integers(1, 12),
    lifting=st.booleans(),
)
def test_group_convolution_accepts_those_grids(group, grid, other, lifting):
    length, k, stride, padding, dilation = grid
    settings = k, stride, padding, dilation
    shape = length, other
    hypothesis.assume(all(fits(n, *settings) for n in shape))
    h = 1 if lifting else group.order
    convolve = functools.partial(group_conv, group=group, stride=stride, padding=padding, dilation=dilation)
    arrays = random(*shape, h, 1), random(k, k, h, 1, 1)
    if is_accepted(group, shape, *settings):
        jax.eval_shape(convolve, *arrays)
    else:
        with assert_refused("does not map the sampling grid to itself", str(group), "exact=False"):
            jax.eval_shape(convolve, *arrays)
    out = jax.eval_shape(functools.partial(convolve, exact=False), *arrays)
    assert out.shape[:2] == tuple(len(pixels_read(n, *settings)) for n in shape)


@hypothesis.settings(max_examples=40)
@hypothesis.given(
    group=st.sampled_from(EXACT_GROUPS + INTERPOLATED_GROUPS),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    window=st.integers(1, 4),
    stride=st.integers(1, 4),
    padding=st.integers(0, 3),
)
def test_pooling_accepts_those_grids(group, shape, window, stride, padding):
    settings = window, stride, padding, 1
    hypothesis.assume(padding < window and all(fits(n, *settings) for n in shape))
    f = random(*shape, group.order, 1)
    pool = functools.partial(max_pool, group=group, window=window, stride=stride, padding=padding)
    if is_accepted(group, shape, *settings):
        jax.eval_shape(pool, f)
    else:
        with assert_refused("does not map the sampling grid to itself", str(group), "exact=False"):
            jax.eval_shape(pool, f)
    out = jax.eval_shape(functools.partial(pool, exact=False), f)
    assert out.shape[:2] == tuple(len(pixels_read(n, *settings)) for n in shape)


def test_one_reflection_asks_for_one_axis_and_the_trivial_group_for_none():
    grid = 3, 2, 0, 1
    for group, good, bad in ((dihedral(1), (9, 8), (8, 9)), (cyclic(2), (9, 9), (9, 8)), (trivial(), (8, 8), None)):
        assert decision(group, good, *grid) is None
        assert bad is None or decision(group, bad, *grid) is not None


def test_table_of_positions_knows_symmetric_from_asymmetric():
    assert pixels_read(5, 3, 2, 0, 1) == [[0, 1, 2], [2, 3, 4]]
    assert pixels_read(4, 3, 2, 1, 1) == [[None, 0, 1], [1, 2, 3]]
    assert np.array_equal(reversed_reading([[0, 1, 2], [2, 3, 4]], 5), [[0, 1, 2], [2, 3, 4]])
    assert reversed_reading([[None, 0, 1], [1, 2, 3]], 4) == [[0, 1, 2], [2, 3, None]]
