"""What weights learned on other classes are worth: `python -m experiments.bench.transfer`.

A p4 network learns to tell the rotated digits 0 to 4 apart, from all but the held-out ones. Then 5 to 9 are learned
from few images a class: from scratch; from the network's weights, with a new head; and with the body frozen, the head
alone. All three have the same images, epochs and learning rates. For every seed the digits are split and turned anew.
The error is that of the network best on validation, on the test images. A measurement that was stopped is continued by
the same command.
"""

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np

from experiments.bench import common
from experiments.data import Dataset, Split, rotated_digits
from experiments.data.dataset import describe
from experiments.report.markdown import Column, mean_and_deviation
from experiments.run.checks import check
from experiments.run.configuration import Config, DataConfig, OptimizerConfig
from experiments.run.model_configuration import model
from experiments.run.runtime import Folder, command, use_compilation_cache
from experiments.train import train_run

FIRST, SECOND = range(5), range(5, 10)
HELD_OUT = 30
"""Images a class that validate."""
STARTS = {
    "from scratch": {},
    "from other weights, new head": {"freeze": "none"},
    "from other weights, head alone": {"freeze": "body"},
}

COLUMNS: dict[str, Column] = {
    "start": ("start", ""),
    "epochs": ("epochs", ""),
    "parameters trained": ("trained_parameters", ","),
    "test error (%)": (lambda row: mean_and_deviation(row["test_error_percent"]), ""),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures what weights learned on the digits 0 to 4 are worth for 5 to 9."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of digits and networks."""
    images: int = 50
    """Training images a class of the digits 5 to 9."""
    epochs: tuple[int, ...] = (10, 40)
    """Of the digits 5 to 9, a row each."""
    first_epochs: int = 30
    """Of the digits 0 to 4."""
    batch_size: common.BatchSize = 50
    runs: Folder = pathlib.Path("runs/transfer")
    """Folder of the work directories."""

    def __post_init__(self):
        super().__post_init__()
        check("images", self.images, f"{-(-self.batch_size // 5)} to 100", self.batch_size / 5 <= self.images <= 100)
        check("epochs", self.epochs, "at least one number of at least 1", min(self.epochs, default=0) >= 1)
        check("seeds", self.seeds, "at least one number", bool(self.seeds))


def main(arguments: Arguments) -> None:
    """Trains, prints a table and saves the figures."""
    use_compilation_cache()
    about = {name: getattr(arguments, name) for name in ("images", "first_epochs", "batch_size", "seeds")}
    results = common.Results("transfer", arguments.out, COLUMNS, **about, rows=[])
    sources, rows = {}, {(epochs, start): [] for epochs in arguments.epochs for start in STARTS}
    for seed in arguments.seeds:
        sources[seed] = arguments.runs / f"seed-{seed}" / "first"
        train_run(_config(seed, arguments.first_epochs, arguments), sources[seed], data=digits_of(FIRST, seed))
    for epochs, start in rows:
        reports = []
        for seed in arguments.seeds:
            options = {"init_from": sources[seed]} | STARTS[start] if STARTS[start] else {}
            config = dataclasses.replace(_config(seed, epochs, arguments), **options)
            workdir = arguments.runs / f"seed-{seed}" / f"{start.replace(',', '').replace(' ', '-')}-{epochs}"
            reports.append(train_run(config, workdir, data=digits_of(SECOND, seed, arguments.images)).report)
        results.add(_row(start, epochs, reports))


def digits_of(classes: Sequence[int], seed: int, images: int | None = None) -> Dataset:
    """Rotated digits of these classes alone, labelled from 0; the embedded set's splits are made anew.

    Args:
      classes: which digits.
      seed: of the embedded set.
      images: of every class that train; None: all but `HELD_OUT` that validate and as many that test. Otherwise all
        others test.
    """
    digits = rotated_digits(seed)
    parts = list(digits.splits().values())
    all_images, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("images", "labels"))
    chosen = {"train": [], "validation": [], "test": []}
    for digit in classes:
        places = np.flatnonzero(labels == digit)
        counts = np.cumsum([len(places) - 2 * HELD_OUT if images is None else images, HELD_OUT])
        for name, part in zip(chosen, np.split(places, counts), strict=True):
            chosen[name].append(part)
    splits = {}
    for name, found in chosen.items():
        places = np.sort(np.concatenate(found))
        splits[name] = Split(all_images[places], (labels[places] - classes[0]).astype(np.int32))
    name = f"rotated digits {classes[0]} to {classes[-1]} (seed {seed})"
    provenance = describe(name, "1.0.0", str(seed), splits)
    return Dataset(name, len(classes), **splits, provenance=provenance, class_names=tuple(map(str, classes)))


def _config(seed, epochs, arguments):
    return Config(
        data=DataConfig(seed=seed),
        model=model("rot_mnist", "p4", dropout_rate=0.1),
        optimizer=OptimizerConfig(epochs=epochs, batch_size=arguments.batch_size),
        seeds=(seed,),
        test_every=epochs,
    )


def _row(start, epochs, reports):
    started = reports[0].get("start", {"trained_parameters": reports[0]["parameters"], "new_head": []})
    best, last = (
        [report[protocol]["error_percent"]["test"][0] for report in reports]
        for protocol in ("best_on_validation", "last_epoch")
    )
    return {
        "start": start,
        "epochs": epochs,
        "trained_parameters": started["trained_parameters"],
        "new_head": started["new_head"],
        "test_error_percent": best,
        "last_epoch_test_error_percent": last,
    }


cli = command(main, Arguments)
