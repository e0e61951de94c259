"""Images that are read when they are needed: those of the set in memory, each once an epoch, however it is cut."""

import contextlib
import dataclasses
import itertools
import multiprocessing
import signal
import time
import warnings

import jax
import numpy as np
import pytest
from helpers import assert_refused
from networks import means_registered
from places import Failing, Large, Places
from small_pictures import folder, picture, three_splits, two_classes, write
from small_sets import random_images, write_small_set

from experiments.data import dataset, folder_stream, load, prepared
from experiments.data.stream import EvaluationBatches, Part, Streamed, TrainingBatches, reading
from experiments.run import loop
from experiments.run.configuration import Config, DataConfig, OptimizerConfig
from experiments.run.feeding import FromStream, count_errors
from experiments.run.idle import check_effect
from experiments.run.loop import first_state, fit, make_trainer
from experiments.run.model_configuration import model
from experiments.run.stopping import Stopped
from experiments.run.workdir import Run, dataset_of, standardised
from experiments.train import train_run


@pytest.fixture
def classes(tmp_path):
    return two_classes(tmp_path)


def places(count=23, read=Places):
    return Streamed(read(), np.arange(count))


def batches(count=23, seeds=(0,), batch_size=5, steps=12, read=Places):
    return TrainingBatches(places(count, read), np.arange(count) % 3, seeds, batch_size, steps)


def seen(batch):
    return batch[0][..., 0, 0, 0, 0].astype(int)


def test_parts_of_processes_are_the_batches_of_one():
    images, labels = places(), np.arange(23) % 3
    whole = TrainingBatches(images, labels, (0, 1), 8, 4)
    parts = [dataclasses.replace(whole, part=Part(index, 4)) for index in range(4)]
    for expected, actual in zip(whole[3], zip(*(part[3] for part in parts), strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(actual, axis=1), expected)
    last = EvaluationBatches(images, labels, 10)
    parts = [dataclasses.replace(last, part=Part(index, 5)) for index in range(5)]
    for expected, actual in zip(last[2], zip(*(part[2] for part in parts), strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(actual), expected)


@pytest.mark.parametrize("make", [two_classes, three_splits])
def test_streamed_pictures_are_those_in_memory(tmp_path, make):
    path = make(tmp_path)
    change = lambda dataset: dataset.resized(lambda _: 17).standardised()  # noqa: E731
    memory, stream = (change(folder(path, **options)) for options in ({}, {"stream": True}))
    for name, split in memory.splits().items():
        found = stream.splits()[name]
        assert isinstance(found.images, Streamed) and found.images.shape == split.images.shape
        np.testing.assert_array_equal(found.images[:], split.images)
        np.testing.assert_array_equal(found.labels, split.labels)
        assert found.names == split.names
    assert stream.preprocessing == memory.preprocessing and stream.class_names == memory.class_names
    assert stream.background == memory.background


def test_indexing_is_that_of_an_array():
    array, stream = np.arange(23.0, dtype=np.float32), places()
    for index in (0, 22, -1, slice(3, 9), slice(None, None, 4), np.array([5, 2, 5]), [1, 0]):
        np.testing.assert_array_equal(stream[index].squeeze(), array[index])
    assert stream.at(slice(4)).shape == (4, 1, 1, 1, 1) and stream.changed(lambda x: 2 * x)[3].item() == 6


def test_an_epoch_sees_every_image_once_in_an_order_of_its_own():
    steps = batches(count=20, seeds=(0, 1))
    epochs = [np.concatenate([seen(steps[4 * epoch + i]) for i in range(4)], axis=1) for epoch in range(3)]
    orders = [order for epoch in epochs for order in epoch]
    for order in orders:
        assert sorted(order) == list(range(20))
    assert all(not np.array_equal(a, b) for a, b in itertools.combinations(orders, 2))
    images, labels = steps[5]
    np.testing.assert_array_equal(labels, images.squeeze() % 3)


def test_what_does_not_fill_a_batch_is_left_out_of_an_epoch_and_is_another_each_time():
    steps = batches(count=23, steps=40)
    left_out = [set(range(23)) - {*np.concatenate([seen(steps[4 * e + i])[0] for i in range(4)])} for e in range(10)]
    assert all(len(images) == 3 for images in left_out)
    assert len(set(map(frozenset, left_out))) > 5


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.default("0", "1")
def test_an_interrupted_stream_goes_on_where_it_was_whoever_reads(workers):
    """Two epochs and a bit, cut at random steps: the order of the stream that nobody cut."""
    source = batches(count=60, steps=26)
    expected, found = [seen(source[step]) for step in range(26)], []
    cuts = sorted(np.random.default_rng(workers).choice(26, 2 if workers else 10, replace=False).tolist())
    for start, stop in itertools.pairwise([0, *cuts, 26]):
        with reading(source, workers, start) as left:
            found += [seen(batch) for batch in itertools.islice(left, stop - start)]
    np.testing.assert_array_equal(found, expected)


def test_a_split_is_read_in_order_and_filled_up_with_what_counts_for_nothing():
    with reading(EvaluationBatches(places(), np.arange(23) % 3, 10), 0) as read:
        images, labels = (np.concatenate(parts) for parts in zip(*read, strict=True))
    np.testing.assert_array_equal(images.squeeze(), [*range(23), *[0] * 7])
    np.testing.assert_array_equal(labels, [*np.arange(23) % 3, *[-1] * 7])


def of_pictures(path, **data):
    """A configuration of the network "means" on a folder of pictures of 4x4 pixels."""
    config = DataConfig(name="folder", path=path, **data)
    optimizer = OptimizerConfig(epochs=3, batch_size=4, learning_rate=0.1)
    return Config(data=config, model=model("means", "p4"), optimizer=optimizer, seeds=(0, 1), test_every=1)


@pytest.fixture
def tiny(tmp_path):
    """Two classes of pictures of 4x4 pixels, bright and dark ones, 12 each."""
    for i in range(12):
        for name, shift in (("bright", 0), ("dark", 1)):
            write(tmp_path / "tiny" / name / f"{i}.png", picture(i, (4, 4)) // 2 + np.uint8(127 * (1 - shift)))
    return tmp_path / "tiny"


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def fitted(config, workdir):
    dataset = standardised(config, dataset_of(config))
    trainer, run = make_trainer(config, dataset), Run(workdir)
    with run.locked():
        run.begin(config, dataset)
        return trainer, fit(run, trainer, dataset, checkpoint_seconds=0.0, workers=config.data.workers)


def test_a_run_that_is_stopped_within_an_epoch_ends_as_if_it_were_not(tmp_path, tiny, monkeypatch):
    with means_registered():
        _, (expected, best, _) = fitted(of_pictures(tiny, stream=True), tmp_path / "whole")
        train, taken = FromStream.train, []

        def interrupted(self, state, count):
            taken.append(count)
            if len(taken) == 6:
                raise Stopped(signum=2)
            return train(self, state, count)

        monkeypatch.setattr(loop, "CALL_SECONDS", 0.0)
        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(FromStream, "train", interrupted)
            fitted(of_pictures(tiny, stream=True), tmp_path / "cut")
        assert 0 < Run(tmp_path / "cut").newest_step < int(expected.step[0])
        _, (state, other, _) = fitted(of_pictures(tiny, stream=True), tmp_path / "cut")
    np.testing.assert_array_equal(flat(state.params), flat(expected.params))
    np.testing.assert_array_equal(flat(other.params), flat(best.params))
    assert [record["train_loss"] for record in Run(tmp_path / "cut").metrics()] == [
        record["train_loss"] for record in Run(tmp_path / "whole").metrics()
    ]
    assert all(record["input_wait_seconds"] >= 0 for record in Run(tmp_path / "whole").metrics())


def test_a_step_of_a_stream_is_a_step_of_training(tiny):
    """The same batch, augmentation, loss and errors; and errors on a split are those of the split in memory."""
    with means_registered():
        config = of_pictures(tiny, stream=True)
        stream, memory = (standardised(c, dataset_of(c)) for c in (config, of_pictures(tiny)))
        trainer = make_trainer(config, stream)
        state, _ = first_state(trainer, (0, 1))
        source = TrainingBatches(stream.train.images, stream.train.labels, (0, 1), 4, 3)
        expected = [jax.tree.map(lambda leaf, i=i: leaf[i], state) for i in range(2)]
        for number in range(2):
            images, labels = source[number]
            step = jax.jit(trainer.step)
            expected = [step(one, images[i], labels[i]) for i, one in enumerate(expected)]
            state = trainer.train_batch(state, images, labels, 4)
        for i, one in enumerate(expected):
            np.testing.assert_allclose(
                flat(jax.tree.map(lambda leaf, i=i: leaf[i], state.params)), flat(one.params), atol=1e-6
            )
            assert float(state.loss[i]) == pytest.approx(float(one.loss), rel=1e-5)
        for name in ("validation", "test"):
            found, direct = (
                count_errors(trainer, state.params, state.rest, each.splits()[name]) for each in (stream, memory)
            )
            np.testing.assert_array_equal(found, direct)


@pytest.mark.slow
def test_a_streamed_run_has_a_report_like_any_other(tmp_path, tiny, capsys):
    with means_registered():
        run = train_run(of_pictures(tiny, stream=True, workers=1), tmp_path / "run")
        assert train_run(of_pictures(tiny, stream=True), tmp_path / "run").report == run.report
        with assert_refused("data.stream is True there and False here"):
            train_run(of_pictures(tiny), tmp_path / "run")
    assert run.report["last_epoch"]["error_percent"]["test"] == run.metrics()[-1]["test_error_percent"]
    assert (tmp_path / "run" / "report.html").exists() and run.report["data"]["set"] == "folder, streamed"


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.default("0")
def test_a_picture_that_cannot_be_read_is_a_line_with_its_name(classes, workers):
    (classes / "cats" / "3.png").write_bytes((classes / "cats" / "3.png").read_bytes()[:60])
    stream = folder(classes, stream=True)
    source = TrainingBatches(stream.train.images, stream.train.labels, (0,), len(stream.train), 1)
    with assert_refused("3.png") as caught, reading(source, workers) as left:
        list(left)
    assert "\n" not in str(caught.value)


def test_a_worker_that_is_killed_is_a_line_that_says_how_to_go_on():
    """Also where it was handing over what it had read ahead: nothing waits for the rest."""
    with alarm(60), reading(batches(read=Large, count=64, batch_size=16, steps=400), 1) as left:
        next(left)
        time.sleep(1)
        (worker,) = multiprocessing.active_children()
        worker.kill()
        with assert_refused(
            "a process that reads images has ended", "the same command continues at the newest checkpoint"
        ):
            list(left)


def test_an_error_of_a_readers_own_is_not_taken_for_a_dead_worker():
    with pytest.raises(RuntimeError, match="my own decoder failed"), reading(batches(read=Failing), 0) as left:
        list(left)


@contextlib.contextmanager
def alarm(seconds):
    """Fails what takes longer, by SIGALRM."""

    def fail(*_):
        raise TimeoutError(f"more than {seconds} s")

    former = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


def test_threads_that_read_leave_warnings_as_they_were(classes):
    stream, before = folder(classes, stream=True), list(warnings.filters)
    source = TrainingBatches(stream.train.images, stream.train.labels, (0,), 4, 40)
    with reading(source, 0) as left:
        list(left)
    assert warnings.filters == before


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (picture(3, (12, 12, 3)), "pixels must have 1 channel (grey), got 3"),
        (picture(3, dtype=np.uint16), "pixels must be uint8, got uint16"),
    ],
    ids=["colour", "16 bits"],
)
def test_a_picture_unlike_those_that_were_looked_at_is_named(classes, monkeypatch, other, message):
    monkeypatch.setattr(folder_stream, "INSPECTED", 2)
    write(classes / "cats" / "3.png", other)
    stream = folder(classes, stream=True)
    splits = [split for split in stream.splits().values() if "cats/3.png" in split.names]
    with assert_refused("cats/3.png: ", message):
        splits[0].images[:]


def test_a_file_that_is_not_there_is_a_line(classes):
    (classes / "cats" / "x.png").symlink_to(classes / "nowhere.png")
    with assert_refused("x.png cannot be read: No such file or directory"):
        folder(classes, stream=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(name="digits", stream=True), "data.stream has no effect with data.name digits: leave it out"),
        (dict(name="folder", path="x", workers=2), "data.workers has no effect with data.stream False: leave it out"),
    ],
    ids=["stream of digits", "workers without a stream"],
)
def test_options_without_effect_are_refused(options, message):
    with assert_refused(message):
        check_effect(Config(data=DataConfig(**options)))


def test_wrong_options_are_refused(classes):
    with assert_refused("data.workers must be not negative, got -1"):
        DataConfig(workers=-1)
    with assert_refused("data.broken skip needs pictures that are read beforehand: leave out data.stream, or skip"):
        folder(classes, stream=True, broken="skip")


@pytest.mark.parametrize("name", ["mnist", "patch_camelyon"])
@pytest.mark.default("mnist")
def test_a_prepared_set_is_streamed_as_it_is_in_memory(name, tmp_path, monkeypatch):
    """Held-out images and a part of the test split as well; processes read it too."""
    monkeypatch.setattr(dataset, "HELD_OUT", 8)
    counts, shape = (
        {"train": 29, "validation": 12, "test": 20},
        (96, 96, 3) if name == "patch_camelyon" else (28, 28),
    )
    published = prepared.PUBLISHED[name]
    sizes = {split: counts[split] for split in published.sizes}
    monkeypatch.setitem(prepared.PUBLISHED, name, published._replace(sizes=sizes))
    written = {split: random_images(count, seed=count, shape=shape) for split, count in sizes.items()}
    write_small_set(name, tmp_path, {split: (images, labels % 2) for split, (images, labels) in written.items()})
    memory, stream = (
        load(name, tmp_path, test_images=5, **options).resized(lambda _: 97).standardised()
        for options in ({}, {"stream": True})
    )
    for part, split in memory.splits().items():
        found = stream.splits()[part]
        np.testing.assert_array_equal(found.images[:], split.images)
        np.testing.assert_array_equal(found.labels, split.labels)
    assert stream.provenance["set"] == f"{name}, streamed" and stream.preprocessing == memory.preprocessing
    source = TrainingBatches(stream.train.images, stream.train.labels, (0,), 4, 2)
    with reading(source, 1) as left:
        for batch, (images, labels) in zip(left, map(source.__getitem__, range(2)), strict=True):
            np.testing.assert_array_equal(batch[0], images)
            np.testing.assert_array_equal(batch[1], labels)
