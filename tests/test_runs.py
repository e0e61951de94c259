"""A work directory is one run's: which, whose, and what is left of it after a kill."""

import dataclasses
import errno
import io
import json
import os
import re
import subprocess
import sys

import pytest
from flax import nnx
from helpers import assert_refused

from attgconv_jax import Sampling
from experiments.augmentation import AugmentConfig
from experiments.configs import PRESETS
from experiments.configs.preset import reports
from experiments.data import Dataset, Split, rotated_digits
from experiments.report.markdown import protocols
from experiments.run.configuration import Config, DataConfig, OptimizerConfig
from experiments.run.identity import from_identity, identity
from experiments.run.metrics import Metrics, read_metrics
from experiments.run.model_configuration import model
from experiments.run.training import make_network
from experiments.run.workdir import Run

# Of version 0.1.0, whose networks had no names.
FORMER = {
    "model.kernel_network": "siren",
    "model.kernel_options": [],
    "model.max_scale": 1.74,
    "model.random_grids": False,
}


def built(*names, **fields):
    return nnx.eval_shape(lambda: make_network(model(*names, **fields), 10, 0))


@pytest.fixture
def digits():
    digits = rotated_digits(seed=0)
    return digits.standardised()


@pytest.fixture
def begun(tmp_path, digits):
    run = Run(tmp_path / "run")
    with run.locked():
        run.begin(Config(), digits)
    return run.workdir


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_a_configuration_comes_back_from_what_is_saved(preset, tmp_path):
    saved = json.loads(json.dumps(identity(preset.config)))
    assert from_identity(saved) == preset.config
    assert from_identity(saved, tmp_path).data.directory == tmp_path


def test_where_the_data_lie_is_no_part_of_a_run(begun, tmp_path):
    config = Config(data=DataConfig(directory=tmp_path))
    assert identity(config) == identity(Config())
    Run(begun).check(config)


def test_a_run_that_began_while_another_read_its_data_is_not_overwritten(tmp_path, digits):
    first, second = Run(tmp_path / "run"), Run(tmp_path / "run")
    with first.locked():
        first.begin(Config(), digits)
    with pytest.raises(ValueError, match=r"another configuration: seeds is \[0\] there"), second.locked():
        second.begin(Config(seeds=(1,)), digits)
    assert Run(second.workdir).config() == Config()


def test_a_work_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is no folder: name another"):
        Run(tmp_path / "file")


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ({}, model("rot_mnist", "p4m", "sge", dropout_rate=0.1)),
        (
            {"model.kind": "gc", "model.features": [4]},
            model("rot_mnist", "p4m", "sge", kind="separable", features=(4,), dropout_rate=0.1),
        ),
        (
            {"model.group": "SE2-4", "model.kernel_options": ["frequency=5"]},
            model("lie_resnet", "SE2-4", "sge", dropout_rate=0.1, network_options=("frequency=5",)),
        ),
        (
            {"model.group": "R2xR-3", "model.kind": "dseparable", "model.max_scale": 1.5, "model.random_grids": True},
            model("lie_resnet", "R2xR-3", "sge", kind="dseparable", max_scale=1.5, random_grids=True, dropout_rate=0.1),
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_run_of_version_0_1_0_is_still_known(former, now):
    saved = {"group": "p4m", "attention": "sge", "dropout_rate": 0.1, "dtype": "float32"}
    rest = {name: value for name, value in identity(Config()).items() if not name.startswith("model.")}
    fields = rest | {f"model.{name}": value for name, value in saved.items()} | FORMER | former
    assert from_identity(fields) == Config(model=now)


@pytest.mark.parametrize(
    ("names", "former", "now"),
    [
        (("rot_mnist", "p4"), ("bilinear", False), Sampling()),
        (("rot_mnist", "p4"), ("cubic", True), Sampling("cubic", True)),
        (("rot_mnist", "C8"), ("bilinear", False), Sampling("bilinear")),
        (("lie_resnet", "SE2-8", "se"), ("bilinear", False), Sampling()),
        (("lie_resnet", "SE2-8", "input"), ("bilinear", False), Sampling("bilinear")),
    ],
    ids=str,
)
def test_a_run_from_before_bases_is_continued_as_it_began(names, former, now):
    fields = identity(Config(model=model(*names)))
    fields = {name: value for name, value in fields.items() if not name.startswith("model.sampling.")}
    fields |= {"model.sampling.kind": former[0], "model.sampling.disc_mask": former[1]}
    assert from_identity(fields).model.sampling == now


def test_a_run_of_version_0_1_0_at_other_angles_interpolates():
    rest = {name: value for name, value in identity(Config()).items() if not name.startswith("model.")}
    saved = {"group": "C8", "attention": "sge", "dropout_rate": 0.1, "dtype": "float32"}
    fields = rest | {f"model.{name}": value for name, value in saved.items()} | FORMER
    assert from_identity(fields).model.sampling == Sampling("bilinear")


def test_another_configuration_is_refused_with_the_differing_fields(begun):
    other = Config(
        model=model("rot_mnist", "p4m", "input", dropout_rate=0.1),
        optimizer=OptimizerConfig(learning_rate=0.5, clip_norm=1.0),
        seeds=(0, 1),
    )
    with pytest.raises(ValueError) as refused:
        Run(begun).check(other)
    message = str(refused.value)
    for part in (
        "model.group is p4 there and p4m here",
        "optimizer.learning_rate is 0.002 there and 0.5 here",
        "optimizer.clip_norm is None there and 1.0 here",
        "seeds is [0] there and [0, 1] here",
        "Name another folder",
    ):
        assert part in message
    assert "epochs" not in message


def test_other_data_are_refused(begun, digits):
    split = Split(digits.test.images[::-1], digits.test.labels[::-1])
    other = rotated_digits(seed=1)
    assert other.provenance["test_sha256"] != digits.provenance["test_sha256"]
    with pytest.raises(ValueError, match=r"began with other data: .*train_sha256 was"):
        Run(begun).begin(Config(), dataclasses.replace(other, test=split))


def test_a_folder_with_something_else_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty and holds no run: name another folder"):
        Run(tmp_path).check(Config())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"config": {"seeds": [0]}}', '{"config": 3}'])
def test_a_damaged_description_is_one_line(begun, content):
    (begun / "run.json").write_text(content)
    with pytest.raises(ValueError, match=r"run.json is (damaged|of no run)") as refused:
        Run(begun).check(Config())
    assert "\n" not in str(refused.value)


def test_a_folder_without_a_run_cannot_be_opened(tmp_path):
    with pytest.raises(ValueError, match=re.escape("holds no run; train one with: python -m experiments.train")):
        Run.open(tmp_path)


def test_two_processes_do_not_train_in_one_folder(begun):
    code = f"""
import pathlib
from experiments.run.workdir import Run
try:
    with Run(pathlib.Path({str(begun)!r})).locked():
        print("mine")
except ValueError as error:
    print(error)
"""
    command = [sys.executable, "-c", code]
    with Run(begun).locked():
        refused = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "another process trains in" in refused
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "mine\n"


def record(step):
    return {
        "step": step,
        "epoch": step // 10,
        "train_loss": [1.0 / step, 2.0],
        "learning_rate": 0.1,
        "time": 1e9 + step,
    }


def test_metrics_beyond_the_checkpoint_are_taken_back(tmp_path):
    with Metrics(tmp_path, 0, (0, 1)) as metrics:
        for step in (10, 20, 30):
            metrics.write(record(step))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 40, "epo')
    assert [line["step"] for line in read_metrics(tmp_path)] == [10, 20, 30]
    with Metrics(tmp_path, 20, (0, 1)) as metrics:
        metrics.write(record(30))
    assert read_metrics(tmp_path) == [record(10), record(20), record(30)]
    assert path.read_text().count("\n") == 3
    assert curves(tmp_path)["train_loss/seed_1"] == {10: 2.0, 20: 2.0, 30: 2.0}


def test_a_damaged_line_of_the_metrics_costs_no_other(tmp_path):
    with Metrics(tmp_path, 0, (0, 1)) as metrics:
        for step in (10, 20, 30):
            metrics.write(record(step))
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines()
    for damage in ("5", "{", "null", '{"epoch": 2}'):
        path.write_text("\n".join([lines[0], damage, lines[2]]) + "\n")
        with pytest.warns(UserWarning, match="line 2 is damaged and passed over"):
            assert read_metrics(tmp_path) == [record(10), record(30)]


def curves(workdir):
    """What TensorBoard would read: by name, a number a step."""
    from tensorboardX.proto import event_pb2

    (path,) = (workdir / "tensorboard").iterdir()
    content, numbers, position = path.read_bytes(), {}, 0
    while position < len(content):
        # A record is its length, a checksum of that, the event, and a checksum of it.
        length = int.from_bytes(content[position : position + 8], "little")
        event = event_pb2.Event.FromString(content[position + 12 : position + 12 + length])
        position += 16 + length
        for value in event.summary.value:
            numbers.setdefault(value.tag, {})[event.step] = value.simple_value
    return numbers


def test_tensorboard_reads_a_curve_a_seed_as_soon_as_it_is_written(tmp_path):
    with Metrics(tmp_path, 0, (3, 7)) as metrics:
        metrics.write(record(10))
        read = curves(tmp_path)
    assert read.keys() == {"epoch", "train_loss/seed_3", "train_loss/seed_7", "learning_rate"}
    assert read["train_loss/seed_3"][10] == pytest.approx(0.1)


def test_metrics_that_cannot_be_written_are_one_line(tmp_path):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Metrics(tmp_path, 0, (0, 1)) as metrics:
        metrics._file.close()
        metrics._file = Full()
        with pytest.raises(OSError, match=r"cannot write to \S*metrics.jsonl: No space left on device; see to it"):
            metrics.write(record(10))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: Config(seeds=()), "seeds must be one or more different numbers"),
        (lambda: Config(seeds=(1, 1)), "seeds must be one or more different numbers"),
        (lambda: Config(seeds=(-1,)), r"seeds must be in 0 to 2\^32 - 1, got -1"),
        (lambda: Config(test_every=0), "test_every must be at least 1"),
        (lambda: Config(seeds_mode="pmap"), "seeds_mode must be one of auto, loop, vmap"),
        (
            lambda: DataConfig(name="cifar"),
            "data.name must be one of digits, digits_rot_scale, .*rot_mnist/regenerated.*; perhaps cifar10",
        ),
        (lambda: model("rot_mnist", "p4", dtype="float16"), "model.dtype must be one of float32, bfloat16, float64"),
        (lambda: model("rotmnist", "p4"), "model.name must be one of .*, got 'rotmnist'; perhaps rot_mnist"),
        (lambda: model("rot_mnist", "p4", width=8), "an argument of rot_mnist must be one of .*, got 'width'"),
        (lambda: model("rot_mnist", "p5"), "model.group must be z2, p4, p4m, or like C8"),
        (
            lambda: model("rot_mnist", "SE2-8"),
            "networks? on groups such as SE2-8: lie_all_cnn, lie_resnet; got rot_mnist",
        ),
        (lambda: model("lie_resnet", "SE2-0"), "Lie groups of networks are like SE2-8, R2xR-3, Sim2-16x3; got 'SE2-0'"),
        (lambda: model("lie_resnet", "Sim2-8x3", max_scale=0.5), "max_scale must be at least 1, got 0.5"),
        (lambda: built("rot_mnist", "p4", dropout_rate=1.5), r"dropout_rate must be in \[0, 1\), got 1.5"),
        (lambda: built("lie_resnet", "SE2-8", features=(8,)), "features must be two or three widths"),
        (lambda: built("lie_resnet", "SE2-8", "response"), "attention must be .*, got 'response'"),
        (lambda: built("lie_resnet", "SE2-8", kind="gc"), "kind must be one of .*, got 'gc'"),
        (lambda: built("rot_mnist", "p4", kind="gc"), "kind must be one of .*, got 'gc'"),
        (lambda: built("rot_mnist", "p4", "sk", kind="separable"), "attention on responses, .*, got 'separable'"),
        (lambda: built("lie_resnet", "Sim2-4x2", max_scale=3.5), "max_scale must be at most 3"),
        (lambda: built("lie_resnet", "Sim2-4x2", max_scale=3.0, kernel_size=5), "kernel_size must be 1 or at least 7"),
        (lambda: built("lie_resnet", "SE2-8", kind="separable+2d"), "kind must be separable on rotations"),
        (lambda: built("lie_resnet", "SE2-8", network="mlp"), "network must be one of"),
        (
            lambda: built("lie_resnet", "SE2-8", network_options=("omega=7",)),
            "network_options of siren are .*, frequency; got 'omega'",
        ),
        (
            lambda: built("lie_resnet", "SE2-8", network_options=("first_frequency=-7",)),
            "first_frequency must be a positive",
        ),
        (
            lambda: built("lie_resnet", "SE2-8", network_options=("frequency=7", "frequency=8")),
            "model.network_options names frequency twice; once will do",
        ),
        (
            lambda: built("lie_resnet", "SE2-8", network="fourier", network_options=("hidden_features=5",)),
            "hidden_features must be even, a sine for every cosine, got 5",
        ),
        (
            lambda: built("lie_resnet", "R2xR-3", network="b_spline", network_options=("angle_centres=9",)),
            r"angle_centres has no effect on scalings\(3, 1.74\); leave it out",
        ),
        (
            lambda: built("lie_resnet", "SE2-8", network_options=("hidden_layers=0", "frequency=3")),
            "frequency has no effect without hidden layers; leave it out",
        ),
        (
            lambda: model("rot_mnist", "p4", random_grids=True),
            "an argument of rot_mnist must be .*, got 'random_grids'",
        ),
        (lambda: OptimizerConfig(learning_rate=float("inf")), "optimizer.learning_rate must be positive, got inf"),
        (lambda: OptimizerConfig(learning_rate=-1), "optimizer.learning_rate must be positive"),
        (lambda: OptimizerConfig(l2=-1), "optimizer.l2 must be not negative"),
        (lambda: OptimizerConfig(clip_norm=0), "optimizer.clip_norm must be positive"),
        (lambda: OptimizerConfig(milestones=(3,)), "optimizer.milestones need optimizer.schedule step"),
        (lambda: OptimizerConfig(schedule="step"), "optimizer.schedule step needs optimizer.milestones"),
        (lambda: OptimizerConfig(schedule="step", milestones=(9, 3)), "optimizer.milestones must be rising epochs"),
        (lambda: OptimizerConfig(warmup_epochs=60), "optimizer.warmup_epochs must be less than the 60 epochs"),
        (
            lambda: OptimizerConfig(schedule="step", milestones=(2, 5), warmup_epochs=3),
            "optimizer.milestones must lie after the 3 epochs of warm-up",
        ),
        (lambda: OptimizerConfig(momentum=1.0), r"optimizer.momentum must be in \[0, 1\)"),
        (
            lambda: Config(data=DataConfig(standardise=False), augment=AugmentConfig(noise=0.1)),
            "augment.noise needs data.standardise",
        ),
    ],
)
def test_configurations_without_sense_are_refused(change, message):
    with assert_refused() as refused:
        change()
    assert re.search(message, str(refused.value))


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_presets_say_their_command_and_figures(preset):
    summary, _, *lines = preset.description.splitlines()
    assert summary == preset.summary
    facts = dict(line.split(": ", maxsplit=1) for line in lines)
    assert facts["Command"] == f"python -m experiments.train {preset.name}"
    assert facts["Paper"] == ("not recorded here" if preset.paper == "-" else f"{preset.paper} %")
    assert re.match(r"not run yet|\d+\.\d\d ", facts["Ours"])


@pytest.mark.parametrize("report", reports(), ids=lambda report: report["preset"])
def test_what_was_measured_are_presets(report):
    preset = PRESETS[report["preset"]]
    assert f"Ours: {' / '.join(protocols(report))} %" in preset.description
    assert from_identity(report["config"] | {"seeds": [0]}) == preset.config


def test_a_batch_larger_than_the_data_is_refused(digits):
    from experiments.run.loop import make_trainer

    few = Dataset("few", 10, *(Split(split.images[:9], split.labels[:9]) for split in digits.splits().values()))
    with pytest.raises(ValueError, match=r"optimizer.batch_size must be at most 9, the training images, got 64"):
        make_trainer(Config(), few)
