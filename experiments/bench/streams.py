"""How fast images are read from a stream: `python -m experiments.bench.streams`.

Writes a folder of pictures, random colours enlarged so that they are as hard to decode as photographs, and reads
training batches from it, as `--data.stream` does, by threads and by processes: images a second, after the first
batches; and the memory of all processes, after a tenth of the images and at the end. In an environment that has
PyTorch, in turn the same pictures through its `DataLoader`. Saved as JSON. Let nothing else run beside it.
"""

import dataclasses
import importlib.util
import itertools
import os
import pathlib
import statistics
import tempfile
import time
from typing import Annotated

import numpy as np
import tyro
from PIL import Image

from experiments.bench import common
from experiments.data import load
from experiments.data.stream import TrainingBatches, reading
from experiments.report.markdown import Column
from experiments.run.runtime import command

CLASSES = 2
WARM = 8
"""Batches that are read before time counts."""

COLUMNS: dict[str, Column] = {
    "processes": ("name", ""),
    "images a second": ("images_per_second", ",.0f"),
    "PyTorch's DataLoader": ("pytorch_images_per_second", ",.0f"),
    "memory (MB), early": ("early_mb", ",.0f"),
    "at the end": ("late_mb", ",.0f"),
}
OURS = {heading: column for heading, column in COLUMNS.items() if "PyTorch" not in heading}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures how fast pictures of a folder are read."""

    pictures: Annotated[int, tyro.conf.arg(help="In the folder.")] = 4000
    images: Annotated[int, tyro.conf.arg(help="That are read; the folder again and again.")] = 20_000
    side: Annotated[int, tyro.conf.arg(help="Pixels of a picture along each axis.")] = 96
    batch_size: common.BatchSize = 128
    workers: Annotated[int, tyro.conf.arg(help="Processes that read, at most; none: threads.")] = 2
    repeats: Annotated[int, tyro.conf.arg(help="Of each, in turn with PyTorch; the median counts.")] = 3


def main(arguments: Arguments) -> None:
    """Measures, prints a table and saves the figures."""
    described = {name: getattr(arguments, name) for name in ("pictures", "images", "side", "batch_size")}
    results = common.Results("streams", arguments.out, COLUMNS, **described, networks={})
    with tempfile.TemporaryDirectory() as folder:
        _write(pathlib.Path(folder), arguments.pictures, arguments.side)
        split = load("folder", path=folder, stream=True).train
        steps = arguments.images // arguments.batch_size
        source = TrainingBatches(split.images, split.labels, (0,), arguments.batch_size, steps)
        for workers in range(arguments.workers + 1):
            rounds, theirs = [], []
            for _ in range(arguments.repeats):
                rounds.append(measure(source, workers))
                if importlib.util.find_spec("torch"):
                    theirs.append(_pytorch(split, arguments.batch_size, steps, workers))
            row = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
            row["pytorch_images_per_second"] = statistics.median(theirs) if theirs else None
            results.add(row, str(workers))


def measure(source: TrainingBatches, workers: int) -> dict[str, float]:
    """Images a second, and megabytes of this process and those that it has started."""
    memory, last = {}, len(source) - 1
    with reading(source, workers) as batches:
        for _ in itertools.islice(batches, WARM):
            pass
        started, count = time.perf_counter(), 0
        for step, (images, _) in enumerate(batches, WARM):
            count += images.shape[1]
            for name, when in (("early_mb", max(WARM, last // 10)), ("late_mb", last)):
                if step == when:
                    memory[name] = _memory_mb()
        seconds = time.perf_counter() - started
    return {"images_per_second": count / seconds} | memory


def _pytorch(split, batch_size, steps, workers):
    import torch  # noqa: PLC0415

    paths = [os.fsdecode(path) for path in split.images.read.paths[split.images.places]]

    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return len(paths)

        def __getitem__(self, index):
            with Image.open(paths[index]) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            return pixels.astype(np.float32) / np.float32(255), split.labels[index]

    loader = torch.utils.data.DataLoader(
        Pictures(), batch_size, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0
    )
    batches = itertools.islice(itertools.chain.from_iterable(loader for _ in itertools.count()), steps)
    for _ in itertools.islice(batches, WARM):
        pass
    started = time.perf_counter()
    count = sum(len(images) for images, _ in batches)
    return count / (time.perf_counter() - started)


def _write(folder, count, side):
    generator = np.random.default_rng(0)
    for i in range(count):
        path = folder / str(i % CLASSES) / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        colours = generator.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(colours).resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)


def _memory_mb() -> float:
    """Of this process and its children, pages that they share counted once; 0 where Linux does not say."""
    total, me = 0, os.getpid()
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if int(entry.name) == me or parent == me:
                lines = (entry / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except OSError:
            # A process that has ended meanwhile.
            continue
    return total / 1e3


cli = command(main, Arguments)
