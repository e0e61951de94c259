"""What becomes of the variance of activations in a deep network: prediction, layers and command."""

import json
import math

import numpy as np
import pytest

from attgconv_jax import Sampling, cyclic, filter_basis
from attgconv_jax.bases.scales import radii, spectrum, variances
from experiments.bench import variance

RADIUS = radii(32)


def test_predicted_variances_are_those_of_the_relu_of_gaussian_numbers():
    """One layer more than flat filters: of pixels that are independent, and of pixels that are all the same."""
    flat, constant = np.ones(RADIUS.shape), RADIUS == 0
    np.testing.assert_allclose(variances(flat, 4), 1, rtol=1e-12)
    np.testing.assert_allclose(variances(4.0 * flat, 3), [4, 16, 64], rtol=1e-12)
    # Filters that keep the mean alone: of white noise a mean square of (E relu)^2 = 1 / (2 pi), times 2.
    white = np.ones(RADIUS.shape, bool)
    first = variances(constant.astype(float), 1, white)
    np.testing.assert_allclose(first, 1 / RADIUS.size, rtol=1e-12)
    only_mean = variances(np.where(constant, 1.0, 1e-12), 3, constant)
    np.testing.assert_allclose(only_mean, 1, rtol=1e-6)


def test_a_relu_leaves_of_white_noise_the_mean_that_it_has():
    """By numbers drawn: of `relu(x)`, smoothed by a filter of the gains given, the mean square."""
    gains = np.exp(-(RADIUS**2) / (2 * 0.15**2))
    x = np.random.default_rng(0).standard_normal((400, *RADIUS.shape))
    white = np.ones(RADIUS.shape, bool)
    for _ in range(2):
        x = np.fft.ifft2(np.fft.fft2(x) * np.sqrt(gains)).real
        left = np.mean(x**2)
        x = np.sqrt(2) * np.maximum(x, 0)
    np.testing.assert_allclose(left, variances(gains, 2, white)[1], rtol=0.02)


def test_layers_keep_the_variance_that_is_predicted():
    """The mean of a few draws; with other weights than those of `he_normal` it would be off by half."""
    measured = variance.mean_squares(cyclic(4), 3, Sampling("rings"), layers=3, maps=256, draws=12, size=16)
    assert measured.shape == (12, 3)
    table = filter_basis(cyclic(4), 3, Sampling("rings")).table
    np.testing.assert_allclose(measured.mean(axis=0), variances(spectrum(table) / 9, 3), rtol=0.2)


@pytest.mark.slow
def test_command_writes_every_way_of_sampling(tmp_path, capsys):
    out = tmp_path / "variance.json"
    sizes = ["--kernel-sizes", "3", "--maps", "1", "--draws", "1", "--size", "16"]
    variance.cli(["--groups", "C8", *sizes, "--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert [row["kind"] for row in rows] == [sampling.kind for sampling in variance.SAMPLINGS]
    assert rows[0]["predicted"] is None
    for row in rows:
        assert len(row["mean_square"]) == 10
        assert all(map(math.isfinite, row["mean_square"] + row["standard_error"] + (row["predicted"] or [])))
    assert "least error, 1 %, low-pass 0.2" in capsys.readouterr().out
