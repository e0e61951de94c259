"""A work directory is one run's: which, whose, and what is left of it after a kill."""

import dataclasses
import errno
import io
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from experiments.config import Config, DataConfig, ModelConfig, OptimizerConfig, from_identity, identity
from experiments.configs import PRESETS
from experiments.data import Dataset, Split, rotated_digits
from experiments.metrics import Metrics, read_metrics
from experiments.runs import Run
from experiments.tables import protocols

RESULTS = pathlib.Path(__file__).parents[1] / "experiments" / "results"


NEW = ("model.kernel_network", "model.kernel_options", "model.kind", "model.max_scale", "model.random_grids")


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


def test_a_run_from_before_lie_groups_is_still_known():
    config = Config(model=ModelConfig(group="p4m"))
    fields = {name: value for name, value in identity(config).items() if name not in NEW}
    assert len(identity(config)) - len(fields) == len(NEW)
    assert from_identity(fields) == config


def test_another_configuration_is_refused_with_the_differing_fields(begun):
    other = Config(
        model=ModelConfig(group="p4m"), optimizer=OptimizerConfig(learning_rate=0.5, clip_norm=1.0), seeds=(0, 1)
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
from experiments.runs import Run
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
        (lambda: DataConfig(name="cifar"), "data.name must be one of digits, digits_rot_scale, rot_mnist/regenerated"),
        (lambda: ModelConfig(dtype="float16"), "model.dtype must be one of float32, bfloat16, float64"),
        (lambda: ModelConfig(dropout_rate=1.5), r"model.dropout_rate must be in \[0, 1\), got 1.5"),
        (lambda: ModelConfig(group="p5"), "the group must be z2, p4, p4m, or like C8"),
        (lambda: ModelConfig(group="SE2-0"), "Lie groups of networks are like SE2-8, R2xR-3, Sim2-16x3; got 'SE2-0'"),
        (lambda: ModelConfig(group="Sim2-8x3", max_scale=0.5), "max_scale must be at least 1, got 0.5"),
        (lambda: ModelConfig(group="SE2-8", features=(8,)), "model.features of SE2-8 must be two numbers or three"),
        (lambda: ModelConfig(group="SE2-8", attention="response"), "on SE2-8 take one of input, input_channel"),
        (lambda: ModelConfig("SE2-8", "none", kind="lifting"), "model.kind on SE2-8 must be one of nonseparable, gsep"),
        (lambda: ModelConfig(kind="separable"), "model.kind on p4 must be one of g, gc, got 'separable'"),
        (lambda: ModelConfig(attention="sk", kind="gc"), "model.kind gc goes with attention on the input, got sk"),
        (
            lambda: ModelConfig("SE2-8", max_scale=3.0),
            "model.max_scale is of groups that scale",
        ),
        (lambda: ModelConfig(max_scale=float("nan")), "as R2xR-3 and Sim2-16x3; p4 has no scales"),
        (lambda: ModelConfig("Sim2-4x2", "none", max_scale=3.5), "model.max_scale must be at most 3, or filters of 7"),
        (lambda: ModelConfig("SE2-8", "none", kind="separable+2d"), "factors rotations and scales, as of Sim2-16x3"),
        (
            lambda: ModelConfig(kernel_network="fourier"),
            "and its options are of Lie groups such as SE2-8, and p4 is none",
        ),
        (lambda: ModelConfig("SE2-8", "none", kernel_network="mlp"), "model.kernel_network must be one of siren, four"),
        (
            lambda: ModelConfig("SE2-8", "none", kernel_options=("omega=7",)),
            "the names for model.kernel_network siren are hidden_features, hidden_layers, first_frequency, frequency",
        ),
        (lambda: ModelConfig("SE2-8", "none", kernel_options=("first_frequency=low",)), "must be a number, got 'low'"),
        (
            lambda: ModelConfig("SE2-8", "none", kernel_options=("first_frequency=-7",)),
            "model.kernel_options: first_frequency must be a positive finite number, got -7.0",
        ),
        (
            lambda: ModelConfig("SE2-8", "none", kernel_options=("frequency=7", "frequency=8")),
            "model.kernel_options names frequency twice; once will do",
        ),
        (
            lambda: ModelConfig("SE2-8", "none", kernel_network="fourier", kernel_options=("hidden_features=5",)),
            "model.kernel_options: hidden_features must be even, a sine for every cosine, got 5",
        ),
        (
            lambda: ModelConfig("SE2-8", "none", kernel_network="b_spline", kernel_options=("scale_centres=9",)),
            r"model.kernel_options: scale_centres has no effect on rotations\(8\); leave it out",
        ),
        (
            lambda: ModelConfig("R2xR-3", "none", kernel_network="b_spline", kernel_options=("angle_centres=9",)),
            r"model.kernel_options: angle_centres has no effect on scalings\(3, 1.74\); leave it out",
        ),
        (
            lambda: ModelConfig("SE2-8", "none", kernel_options=("hidden_layers=0", "frequency=3")),
            "model.kernel_options: frequency has no effect without hidden layers; leave it out",
        ),
        (lambda: ModelConfig(random_grids=True), "model.random_grids are of Lie groups such as SE2-8, and p4 is none"),
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
    ],
)
def test_configurations_without_sense_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        change()


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_presets_say_their_command_time_and_figures(preset):
    lines = preset.description.splitlines()
    assert f"Command: python -m experiments.train {preset.name}" in lines
    said = {name: value for name, _, value in (line.partition(": ") for line in lines[2:])}
    assert said.keys() == {"Paper", "Ours", "Time", "Command"}
    if preset.paper != "-":
        assert said["Paper"] == f"{preset.paper} %"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/*.json")), ids=lambda path: path.stem)
def test_what_a_preset_says_of_ours_is_what_was_measured(path):
    report = json.loads(path.read_text())
    said = PRESETS[report["preset"]].description
    assert f"Ours: {' / '.join(protocols(report))} %" in said
    assert from_identity(report["config"] | {"seeds": [0]}) == PRESETS[report["preset"]].config


def test_a_batch_larger_than_the_data_is_refused(digits):
    from experiments.loop import make_trainer

    few = Dataset("few", 10, *(Split(split.images[:9], split.labels[:9]) for split in digits.splits().values()))
    with pytest.raises(ValueError, match=r"optimizer.batch_size must be at most 9, the training images, got 64"):
        make_trainer(Config(), few)
