"""The table of errors by way of sampling: its figures, on small cases."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random

from attgconv_jax import Sampling, band_limited_error, cyclic
from experiments.bench import angles
from experiments.bench.angle_layers import several_layers

C8 = cyclic(8)


def test_one_layer_measured_by_its_responses_errs_as_on_images():
    """A function that turns right errs by rounding; one that does not, as much as on images."""
    exact, bilinear = (angles._table(C8, 5, sampling) for sampling in (Sampling("least_error"), Sampling("bilinear")))
    worst, right = np.mean([angles._one_layer(exact, C8, seed) for seed in range(3)], axis=0)
    assert right < 1e-12 < worst < 1e-3
    by_responses = np.mean([angles._one_layer(bilinear, C8, seed)[0] for seed in range(5)])
    w = random(25, 8)
    bank = np.einsum("guv,vo->ugo", bilinear, np.asarray(w)).reshape(5, 5, 64)

    def convolve(f):
        return jax.lax.conv_general_dilated(
            f[..., 0, :], jnp.asarray(bank)[:, :, None], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ).reshape(-1, 29, 29, 8, 8)

    on_images = band_limited_error(convolve, C8, elements=[1], size=33, dtype=jnp.float64).error
    assert by_responses == pytest.approx(on_images, rel=0.3)


@pytest.mark.slow
def test_two_bilinear_layers_err_by_half():
    """As the design says: 60 %."""
    figures = several_layers(C8, 7, Sampling("bilinear"), ("relu",), draws=1, pixels=65, features=4)
    assert 0.4 < figures["relu"] < 0.8
    assert figures["floor"] < 2e-3


@pytest.mark.slow
def test_angles_are_a_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(angles, "SAMPLINGS", (Sampling("bilinear"), Sampling("least_error", tolerance=0.03)))
    monkeypatch.setattr(angles, "FURTHER", (Sampling("bilinear"),))
    out = tmp_path / "angles.json"
    words = ["--groups", "C8", "C3", "--kernel-sizes", "3", "--larger-sizes", "5", "--draws", "1"]
    angles.cli([*words, "--features", "1", "--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert len(rows) == 2 * 3
    known = {(row["group"], row["kernel_size"], angles.label(row)): row for row in rows}
    best, worst = (known["cyclic(8)", 3, name] for name in ("least error, 3 %, low-pass 0.2", "bilinear"))
    assert (best["functions"], worst["functions"]) == (4, 9)
    assert best["parameters"] == 4 * 8 * 8 * 8
    assert best["exact"] < 1e-12 < best["one_layer"] < worst["one_layer"] / 10
    assert best["oversampled"] < best["relu"] < worst["relu"] / 5
    assert worst["smooth_max_pool"] > 0.1
    assert best["stride"] is None
    assert known["cyclic(3)", 3, "bilinear"]["relu"] is None
    assert "| cyclic(8) | 3 | bilinear | 9 | 4,608 |" in capsys.readouterr().out


@pytest.mark.slow
def test_steps_are_timed_in_turn(tmp_path, capsys):
    out = tmp_path / "steps.json"
    angles.cli(["--time", "--kernel-sizes", "3", "--repeats", "1", "--out", str(out)])
    bilinear, least_error = json.loads(out.read_text())["rows"]
    assert (bilinear["sampling"], bilinear["ratio"], least_error["sampling"]) == ("bilinear", 1, "least error")
    assert least_error["planned_mb"] > 1
    assert "| 3 | bilinear |" in capsys.readouterr().out
