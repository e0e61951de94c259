"""The commands that measure layers and networks on Lie groups: their figures, on small cases."""

import json
import pathlib

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from attgconv_jax.lie import rotations, scalings
from attgconv_jax.nn import LieConv
from experiments import lie_benchmark, lie_equivariance
from experiments.memory import Case

ROOT = pathlib.Path(__file__).parents[1]
SIZE = 17


class Small(nnx.Module):
    """Logits from a lifting alone."""

    def __init__(self, rngs):
        self.lifting = LieConv(1, 10, 5, rotations(2), kind="lifting", rngs=rngs)

    def __call__(self, image):
        return jnp.mean(self.lifting(image), axis=(-4, -3, -2))


def test_right_angles_are_exact_and_others_are_not():
    worst = lie_equivariance.worst(lie_equivariance.errors(rotations(8), "separable", 7, SIZE, 2, (0,)))
    assert worst["right"] < 1e-12
    assert 1e-4 < worst["other"] < 0.1
    assert worst["scaled"] is worst["scaled_with_ends"] is None


def test_what_acts_on_the_scales_alone_errs_at_the_ends_of_the_grid_alone():
    """Filters of one pixel do not see pixels: splines are left, and what leaves the grid where there is anything."""
    worst = lie_equivariance.worst(lie_equivariance.errors(scalings(3, 1.74), "separable", 1, SIZE, 2, (0,)))
    assert worst["right"] is worst["other"] is None
    assert worst["scaled"] < 2e-3
    assert worst["scaled_with_ends"] > 20 * worst["scaled"]


def test_a_layer_that_treats_angles_differently_is_found(monkeypatch):
    apply = lie_equivariance._apply
    monkeypatch.setattr(lie_equivariance, "_apply", lambda layer, f: apply(layer, f).at[..., 0, :].mul(2))
    worst = lie_equivariance.worst(lie_equivariance.errors(rotations(4), "separable", 5, SIZE, 2, (0,)))
    assert worst["right"] > 0.1


def test_inputs_have_no_higher_frequencies_than_promised():
    window = np.outer(*[np.blackman(64)] * 2)
    spectrum = np.abs(np.fft.fft2(lie_equivariance.Waves(1, 1)(lie_equivariance._pixels(64))[..., 0, 0] * window))
    frequencies = np.fft.fftfreq(64)
    # The window widens a line by three bins.
    beyond = np.hypot(frequencies[:, None], frequencies) > lie_equivariance.LARGEST_FREQUENCY + 4 / 64
    assert np.max(spectrum[beyond]) < 1e-3 * np.max(spectrum)


def test_equivariance_is_a_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lie_equivariance, "KINDS", ("lifting", "separable"))
    out = tmp_path / "equivariance.json"
    lie_equivariance.main(
        lie_equivariance.Arguments(angles=(3,), kernel_sizes=(7,), size=SIZE, features=1, seeds=(0,), out=out)
    )
    rows = json.loads(out.read_text())["rows"]
    assert [row["group"] for row in rows[::2]] == [
        "rotations(8)",
        "rotations(3)",
        "scalings(3, 1.74)",
        "similarities(8, 3, 1.74)",
    ]
    assert len(rows[-1]["elements"]) == 23
    assert f"| rotations(3) | 7 | lifting |  | {rows[2]['other']:.1e} |  |  |" in capsys.readouterr().out
    assert out.with_suffix(".png").stat().st_size > 10_000


def test_the_readme_says_what_was_measured():
    results = json.loads((ROOT / "experiments/results/lie-equivariance.json").read_text())
    rows = {(row["group"], row["kernel_size"], row["kind"]): row for row in results["rows"]}
    readme = (ROOT / "README.md").read_text()
    for kind in list(lie_equivariance.KINDS)[:6]:
        turned = [rows["rotations(8)", pixels, kind]["other"] for pixels in (7, 9)]
        few, many = (rows["scalings(3, 1.74)", pixels, kind] for pixels in (7, 11))
        errors = [*turned, few["scaled"], many["scaled"], many["scaled_with_ends"]]
        assert f"| `{kind}` | {' | '.join(f'{100 * error:.1f} %' for error in errors)} |" in readme


def test_the_cost_is_a_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lie_benchmark, "CASES", {"small": Case(Small, 28, 1, optax.adam(1e-4))})
    out = tmp_path / "cost.json"
    lie_benchmark.main(lie_benchmark.Arguments(batch_size=2, repeats=1, out=out))
    figures = json.loads(out.read_text())["networks"]["small"]
    assert 0 < figures["kernels_ms"] < 1e3 * figures["compile_s"]
    assert figures["parameters"] == 2 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10
    # Images lifted to 10 channels on 2 elements are 0.1 MB; patches and gradients are some times that.
    assert 0.1 < figures["planned_mb"] < 3
    assert f"| small | {figures['parameters']:,} | " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: lie_equivariance.Arguments(size=15), "size must be at least 16, or no disc is left"),
        (lambda: lie_equivariance.Arguments(seeds=()), "seeds must be one or more numbers"),
        (lambda: lie_benchmark.Arguments(networks=("SE2-8",)), "networks must be among SE2-4 nonseparable, "),
        (lambda: lie_benchmark.Arguments(repeats=0), "repeats must be at least 1, got 0"),
    ],
)
def test_arguments_without_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change()
