"""The commands that measure layers and networks on Lie groups: their figures, on small cases."""

import inspect
import json
import pathlib
from statistics import median
from typing import get_args

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from attgconv_jax import cyclic, trivial
from attgconv_jax.lie import KINDS, rotations, scalings, similarities
from attgconv_jax.lie.kernel_networks.sines import siren_weights
from attgconv_jax.models import load_network
from attgconv_jax.nn import LieConv
from experiments import evaluate, lie_benchmark, lie_equivariance, train
from experiments.config import LieKind
from experiments.configs.lie_attention import LIE_ATTENTION_ROWS
from experiments.groups import parse_lie_group
from experiments.measures import equivariance_line, measured_group
from experiments.memory import Case
from experiments.runs import Run
from experiments.tables import protocols

ROOT = pathlib.Path(__file__).parents[1]
SIZE = 17
OTHER_NETWORKS = ("fourier", "multiplicative", "b_spline")


class Small(nnx.Module):
    """Logits from a lifting alone."""

    def __init__(self, rngs):
        self.lifting = LieConv(1, 10, 5, rotations(2), lifting=True, rngs=rngs)

    def __call__(self, image):
        return jnp.mean(self.lifting(image), axis=(-4, -3, -2))


def test_right_angles_are_exact_and_others_are_not():
    worst = lie_equivariance.worst(lie_equivariance.errors(rotations(8), "separable", 7, SIZE, 2, (0,)))
    assert worst["right"] < 1e-12
    assert 1e-4 < worst["other"] < 0.1
    assert worst["scaled"] is worst["scaled_with_ends"] is None


def test_the_usual_first_frequency_is_the_networks_default():
    assert inspect.signature(siren_weights).parameters["first_frequency"].default == lie_equivariance.FIRST_FREQUENCY
    cases = lie_equivariance._cases(lie_equivariance.Arguments(kernel_sizes=(9,), first_frequencies=(10.0, 10.0)))
    assert cases.count(lie_equivariance.Case(rotations(8), 7)) == 1


def test_kernels_that_vary_slowly_between_pixels_commute_better():
    slow, fast = (
        lie_equivariance.errors(rotations(8), "separable", 7, SIZE, 2, (0,), network_options=dict(first_frequency=k))
        for k in (2.0, 20.0)
    )
    assert 10 * lie_equivariance.worst(slow)["other"] < lie_equivariance.worst(fast)["other"]


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


def test_a_network_on_a_lie_group_is_trained_and_evaluated(tmp_path, capsys):
    words = ["digits", "--model.group", "SE2-4", "--model.features", "2", "2", "--model.attention", "se"]
    words += ["--model.random-grids", "--optimizer.epochs", "1", "--optimizer.batch-size", "250"]
    train.cli([*words, "--workdir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "SE2-4 network, separable kernels, attention se, on digits" in printed
    assert "equivariance error of the logits over the quarter turns of rotations(4): " in printed
    assert max(Run(tmp_path).report["equivariance_error"]) < 1e-4
    network = load_network(tmp_path / "networks" / "seed-0-best")
    assert (network.group, network.settings["features"]) == (rotations(4), (2, 2))
    evaluate.cli([str(tmp_path), "--angle-step", "180", "--angle-images", "10"])
    evaluation = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert len(evaluation["equivariance_by_element"]) == 4
    assert max(evaluation["equivariance_by_element"]) < 1e-4
    with pytest.raises(SystemExit):
        evaluate.cli([str(tmp_path), "--layer", "0"])
    assert "attention is drawn of finite groups alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "group", "measured"),
    [
        ("SE2-8", rotations(8), cyclic(4)),
        ("SE2-6", rotations(6), cyclic(2)),
        ("SE2-5", rotations(5), trivial()),
        ("R2xR-3", scalings(3, 1.5), trivial()),
        ("Sim2-16x3", similarities(16, 3, 1.5), cyclic(4)),
    ],
)
def test_names_are_those_of_lie_groups(name, group, measured):
    assert parse_lie_group(name, 1.5) == group
    assert measured_group(group) == measured
    words = equivariance_line(group, 0.5)
    assert ("not measured" in words) == (measured == trivial())
    assert repr(group) in words


def test_finite_groups_have_other_names_and_are_measured_whole():
    assert parse_lie_group("p4", 1.5) is None
    assert measured_group(cyclic(8)) == cyclic(8)
    assert "5.0e-01" in equivariance_line(cyclic(8), 0.5)


def test_kinds_of_the_command_line_are_those_of_the_library():
    assert get_args(LieKind) == tuple(KINDS)


def test_equivariance_is_a_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lie_equivariance, "KINDS", ("lifting", "separable"))
    out = tmp_path / "equivariance.json"
    lie_equivariance.main(
        lie_equivariance.Arguments(
            angles=(3,), kernel_sizes=(7,), first_frequencies=(5.0,), size=SIZE, features=1, seeds=(0,), out=out
        )
    )
    rows = json.loads(out.read_text())["rows"]
    assert [(row["group"], row["network"], row["first_frequency"]) for row in rows[::2]] == [
        ("rotations(8)", "siren", 10),
        ("scalings(3, 1.74)", "siren", 10),
        ("similarities(8, 3, 1.74)", "siren", 10),
        ("rotations(3)", "siren", 10),
        ("rotations(8)", "siren", 5),
        *(("rotations(8)", network, None) for network in OTHER_NETWORKS),
        ("scalings(3, 1.74)", "siren", 5),
        *(("scalings(3, 1.74)", network, None) for network in OTHER_NETWORKS),
    ]
    assert len(rows[4]["elements"]) == 23
    assert len({row["other"] for row in rows[::2] if row["group"] == "rotations(8)"}) == 5
    assert f"| rotations(3) | 7 | siren, 10 | lifting |  | {rows[6]['other']:.1e} |  |  |" in capsys.readouterr().out
    assert out.with_suffix(".png").stat().st_size > 10_000


def test_the_readme_says_what_was_measured():
    results = json.loads((ROOT / "experiments/results/lie-equivariance.json").read_text())
    usual = [row for row in results["rows"] if row["first_frequency"] == 10]
    rows = {(row["group"], row["kernel_size"], row["kind"]): row for row in usual}
    readme = (ROOT / "README.md").read_text()
    for kind in list(lie_equivariance.KINDS)[:6]:
        turned = [rows["rotations(8)", pixels, kind]["other"] for pixels in (7, 9)]
        few, many = (rows["scalings(3, 1.74)", pixels, kind] for pixels in (7, 11))
        errors = [*turned, few["scaled"], many["scaled"], many["scaled_with_ends"]]
        assert f"| `{kind}` | {' | '.join(f'{100 * error:.1f} %' for error in errors)} |" in readme


@pytest.mark.parametrize(
    ("said", "network", "frequency"),
    [
        ("`siren`, `first_frequency=10.0`", "siren", 10),
        ("`siren`, `first_frequency=7.0`", "siren", 7),
        ("`siren`, `first_frequency=5.0`", "siren", 5),
        *((f"`{network}`", network, None) for network in OTHER_NETWORKS),
    ],
)
def test_the_readme_says_how_kernel_networks_commute(said, network, frequency):
    rows = json.loads((ROOT / "experiments/results/lie-equivariance.json").read_text())["rows"]
    rows = [row for row in rows if (row["network"], row["first_frequency"]) == (network, frequency)]
    cells = []
    for group, quantity in (("rotations(8)", "other"), ("scalings(3, 1.74)", "scaled")):
        errors = [row[quantity] for row in rows if (row["group"], row["kernel_size"]) == (group, 7)]
        assert len(errors) == 6
        cells.append(f"{100 * min(errors):.1f} to {100 * max(errors):.1f} %")
    assert f"| {said} | {' | '.join(cells)} |" in (ROOT / "README.md").read_text()


def test_the_readme_says_what_networks_cost():
    networks = json.loads((ROOT / "experiments/results/lie-benchmark-cpu.json").read_text())["networks"]
    cost = {name: (row["step_ms"] / 1e3, row["planned_mb"] / 1e3) for name, row in networks.items()}
    steps = json.loads((ROOT / "experiments/results/lie-pytorch-cpu.json").read_text())["steps_ms"]
    ratio = {name: f"{median(turns['ours']) / median(turns['pytorch']):.2f}" for name, turns in steps.items()}
    readme = (ROOT / "README.md").read_text()
    for kind in lie_benchmark.KINDS:
        cells = [f"{s:.1f} s, {gb:.1f} GB" for s, gb in (cost[f"SE2-{n} {kind}"] for n in (4, 8, 12, 16))]
        assert f"| `{kind}` | {' | '.join([*cells, ratio[f'SE2-8 {kind}']])} |" in readme
    name = "Sim2-16x3 separable+2d"
    s, gb = cost[name]
    assert f"`separable+2d` takes {s:.1f} s and {gb:.1f} GB; in turn with PyTorch, {ratio[name]} of its time" in readme


@pytest.mark.parametrize(
    "path", sorted((ROOT / "experiments/results/lie-attention").glob("*.json")), ids=lambda p: p.stem
)
def test_the_readme_says_what_attention_gained(path):
    report = json.loads(path.read_text())
    titles = {f"lie-attention-{row.name}": row.title for row in LIE_ATTENTION_ROWS}
    columns = titles[report["preset"]], f"{report['parameters']:,}", protocols(report)[0]
    assert f"| {' | '.join(columns)} |" in (ROOT / "README.md").read_text()


def test_the_cost_is_a_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lie_benchmark, "CASES", {"small": Case(Small, 28, 1, optax.adam(1e-4))})
    out = tmp_path / "cost.json"
    lie_benchmark.main(lie_benchmark.Arguments(batch_size=2, repeats=1, out=out))
    figures = json.loads(out.read_text())["networks"]["small"]
    assert figures["step_ms"] > 0 and figures["kernels_ms"] > 0
    assert figures["parameters"] == 2 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10
    # Images lifted to 10 channels on 2 elements are 0.1 MB; patches and gradients are some times that.
    assert 0.1 < figures["planned_mb"] < 3
    assert f"| small | {figures['parameters']:,} | " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: lie_equivariance.Arguments(size=19), "size must be at least 20, or no disc is left"),
        (
            lambda: lie_equivariance.Arguments(kernel_sizes=(7, 3)),
            "kernel_sizes must be 1 or at least 5, or filters cannot hold kernels",
        ),
        (lambda: lie_equivariance.Arguments(kernel_sizes=(8,)), "kernel_sizes must be odd"),
        (
            lambda: lie_equivariance.Arguments(first_frequencies=(0.0,)),
            "first_frequencies must be a positive finite number, got",
        ),
        (lambda: lie_equivariance.Arguments(seeds=()), "seeds must be one or more numbers"),
        (lambda: lie_benchmark.Arguments(networks=("SE2-8",)), "networks must be among SE2-4 nonseparable, "),
        (lambda: lie_benchmark.Arguments(repeats=0), "repeats must be at least 1, got 0"),
    ],
)
def test_arguments_without_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change()
