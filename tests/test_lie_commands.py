"""The commands that measure layers and networks on Lie groups: their figures, on small cases."""

import inspect
import json

import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from attgconv_jax import cyclic, trivial
from attgconv_jax.lie import rotations, scalings, similarities
from attgconv_jax.lie.kernel_networks.sines import siren_weights
from attgconv_jax.models import load_network
from attgconv_jax.nn import LieConv
from experiments import evaluate, train
from experiments.bench import lie_equivariance, lie_errors, lie_networks
from experiments.bench.steps import Case
from experiments.report.measures import equivariance_line, measured_group
from experiments.run.groups import parse_lie_group
from experiments.run.workdir import Run

SIZE = 17
OTHER_NETWORKS = ("fourier", "multiplicative", "b_spline")


class Small(nnx.Module):
    """Logits from a lifting alone."""

    def __init__(self, rngs):
        self.lifting = LieConv(1, 10, 5, rotations(2), lifting=True, rngs=rngs)

    def __call__(self, image):
        return jnp.mean(self.lifting(image), axis=(-4, -3, -2))


def test_right_angles_are_exact_and_others_are_not():
    worst = lie_errors.worst(lie_errors.errors(rotations(8), "separable", 7, SIZE, 2, (0,)))
    assert worst["right"] < 1e-12
    assert 1e-4 < worst["other"] < 0.1
    assert worst["scaled"] is worst["scaled_with_ends"] is None


def test_the_usual_first_frequency_is_the_networks_default():
    assert inspect.signature(siren_weights).parameters["first_frequency"].default == lie_equivariance.FIRST_FREQUENCY
    cases = lie_equivariance._cases(lie_equivariance.Arguments(kernel_sizes=(9,), first_frequencies=(10.0, 10.0)))
    assert cases.count(lie_equivariance.Case(rotations(8), 7)) == 1


def test_kernels_on_few_pixels_vary_as_slowly_as_pixels_can_follow():
    """With the paper's first frequency a lifting of 5 pixels errs by a third."""
    chosen, paper = (
        lie_errors.worst(lie_errors.errors(rotations(8), "lifting", 5, SIZE, 2, (0,), network_options=options))["other"]
        for options in ({}, dict(first_frequency=10.0))
    )
    assert chosen < 0.03 and paper > 0.2


def test_kernels_that_vary_slowly_between_pixels_commute_better():
    slow, fast = (
        lie_errors.errors(rotations(8), "separable", 7, SIZE, 2, (0,), network_options=dict(first_frequency=k))
        for k in (2.0, 20.0)
    )
    assert 10 * lie_errors.worst(slow)["other"] < lie_errors.worst(fast)["other"]


def test_what_acts_on_the_scales_alone_errs_at_the_ends_of_the_grid_alone():
    """Filters of one pixel do not see pixels: splines are left, and what leaves the grid where there is anything."""
    worst = lie_errors.worst(lie_errors.errors(scalings(3, 1.74), "separable", 1, SIZE, 2, (0,)))
    assert worst["right"] is worst["other"] is None
    assert worst["scaled"] < 2e-3
    assert worst["scaled_with_ends"] > 20 * worst["scaled"]


def test_a_layer_that_treats_angles_differently_is_found(monkeypatch):
    apply = lie_errors._apply
    monkeypatch.setattr(lie_errors, "_apply", lambda layer, f: apply(layer, f).at[..., 0, :].mul(2))
    worst = lie_errors.worst(lie_errors.errors(rotations(4), "separable", 5, SIZE, 2, (0,)))
    assert worst["right"] > 0.1


@pytest.mark.slow
def test_a_network_on_a_lie_group_is_trained_and_evaluated(tmp_path, capsys):
    words = ["digits", "--model.group", "SE2-4", "--model.features", "2", "2", "--model.attention", "se"]
    words += ["--model.random-grids", "--optimizer.epochs", "1", "--optimizer.batch-size", "250"]
    train.cli([*words, "--workdir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "lie_resnet on SE2-4, attention se, on digits" in printed
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
    assert "attention is drawn of finite groups, not of rotations(4)" in capsys.readouterr().err


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


@pytest.mark.slow
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
        *((group, "siren", None) for group in ("rotations(8)", "scalings(3, 1.74)", "similarities(8, 3, 1.74)")),
    ]
    assert len(rows[4]["elements"]) == 23
    assert len({row["other"] for row in rows[::2] if row["group"] == "rotations(8)"}) == 6
    assert f"| rotations(3) | 7 | siren, 10 | lifting |  | {rows[6]['other']:.1e} |  |  |" in capsys.readouterr().out
    assert out.with_suffix(".png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_cost_is_a_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(lie_networks, "CASES", {"small": Case(Small, 28, 1, optax.adam(1e-4))})
    out = tmp_path / "cost.json"
    lie_networks.main(lie_networks.Arguments(batch_size=2, repeats=1, out=out))
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
    ],
)
def test_arguments_without_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change()
