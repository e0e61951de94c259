"""Classifies pictures by a trained network: `python -m experiments.predict RUN FILES_OR_FOLDERS`.

RUN is the work directory of `experiments.train`, of which the network best on validation of the lowest seed is taken,
or the folder of a network that was saved with its preprocessing. Folders are searched for pictures, those inside them
too; of a `.npz` file `images` or `test_images` are classified, row by row. Prints a table, and the pictures that could
not be read at the end, with exit code 1.
"""

import csv
import dataclasses
import io
import json
import os
import pathlib
import sys
import time
import warnings
from typing import Annotated

import numpy as np
import tqdm
import tyro

from attgconv_jax.models import load_classifier
from attgconv_jax.models.classifier import network_folder
from experiments.data.own import plural
from experiments.report.markdown import markdown_table
from experiments.run.checks import check
from experiments.run.prediction import Failure, compile_for, find_pictures, predictions
from experiments.run.runtime import (
    CompilationCache,
    Products,
    command,
    use_compilation_cache,
    writing,
)
from experiments.run.saved import precision_of, registered_description
from experiments.run.scale import Scale

ROWS = 20
"""So many are printed where a file holds them all, and so many errors."""

Paths = Annotated[tuple[pathlib.Path, ...], tyro.conf.arg(metavar="PATH [PATH ...]")]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Classifies pictures by a trained network."""

    run: tyro.conf.Positional[pathlib.Path]
    """Work directory of a run, or folder of a network."""
    paths: tyro.conf.Positional[Paths]
    """Pictures, folders of pictures, and .npz files of arrays."""
    output: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Where to write all predictions: a .csv or a .jsonl file."""
    top: int = 2
    """How many classes are told of a picture, the most probable first."""
    batch_size: int = 64
    """Pictures at a time."""
    precision: Products = None
    compilation_cache: CompilationCache = None

    def __post_init__(self):
        check("top", self.top, "at least 1", self.top >= 1)
        check("batch_size", self.batch_size, "at least 1", self.batch_size >= 1)
        if not self.paths:
            raise ValueError("paths must be one or more pictures or folders, got none")
        if self.output is not None and self.output.suffix not in WRITERS:
            raise ValueError(f"output must be a {' or '.join(WRITERS)} file, got {self.output}")


def main(arguments: Arguments) -> None:
    """Classifies, prints, writes."""
    use_compilation_cache(arguments.compilation_cache)
    if arguments.output is not None:
        _check_writable(arguments.output)
    folder = network_folder(arguments.run)
    pictures, others = find_pictures(arguments.paths)
    if others:
        print(
            f"note: {plural(others, 'other file', 'other files')} in the folders, which no picture is by its name, "
            "left out"
        )
    description = registered_description(folder)
    with precision_of(description, arguments.precision):
        classifier = _loaded(folder, named=description.get("class_names") is not None)
        classes = len(classifier.class_names)
        # The default asks for a runner-up, which a network of one class has not.
        check("top", arguments.top, f"at most {classes}, the classes of {folder}", arguments.top <= max(2, classes))
        compilation = compile_for(classifier, arguments.batch_size)
        scale = Scale(classifier.preprocessing)
        started = time.perf_counter()
        with tqdm.tqdm(total=len(pictures), unit="picture", file=sys.stderr, mininterval=0.5) as bar:
            found = list(predictions(classifier, pictures, arguments.batch_size, arguments.top, bar.update, scale))
        seconds = time.perf_counter() - started
    failures = [each for each in found if isinstance(each, Failure)]
    made = [each for each in found if not isinstance(each, Failure)]
    if arguments.output is not None:
        _write(arguments.output, made)
    if scale.note() is not None:
        print(f"note: {scale.note()}")
    shown = made if arguments.output is None else made[:ROWS]
    if shown:
        print(markdown_table(["file", "class", "probability", "runner-up"], map(_row, shown)))
    if len(shown) < len(made):
        print(f"and {len(made) - len(shown)} more")
    if arguments.output is not None:
        print(f"predictions: {arguments.output}")
    print(
        f"{plural(len(pictures), 'picture', 'pictures')} in {seconds:.2f} s, {len(pictures) / seconds:.0f} a second "
        f"with reading them; {compilation:.1f} s before that to compile"
    )
    for failure in failures[:ROWS]:
        print(f"error: {failure.message}", file=sys.stderr)
    if failures:
        told = plural(len(failures), "picture was", "pictures were")
        print(f"error: {told} not classified, of {len(pictures)}", file=sys.stderr)
        sys.exit(1)


def _loaded(folder, named):
    """The classifier, with a note on what is taken for granted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        classifier = load_classifier(folder)
    dtype, means = classifier.preprocessing.dtype, np.ravel(classifier.preprocessing.mean)
    if not named:
        print("note: the network has no class names; its classes are called by their numbers, from 0")
    if np.issubdtype(dtype, np.floating):
        if not np.all((means >= 0) & (means <= 1)):
            found = " ".join(f"{mean:g}" for mean in means)
            raise ValueError(
                f"{folder} was trained on {dtype} pixels with mean {found}; pictures in files do not have such: take "
                "attgconv_jax.models.load_classifier, on arrays"
            )
        print(f"note: the network was trained on {dtype} pixels; white in a picture is taken as 1")
    return classifier


def _row(prediction):
    runners_up = zip(prediction.classes[1:], prediction.probabilities[1:], strict=True)
    cells = ", ".join(f"{name} {probability:.3f}" for name, probability in runners_up)
    return [prediction.file, prediction.classes[0], f"{prediction.probabilities[0]:.3f}", cells]


def _check_writable(path):
    """Raises an `OSError` where there is a file or none can be written: before the pictures, which may take long."""
    if path.is_file():
        raise FileExistsError(f"{path} exists: choose another path, or remove it first")
    partial = _partial(path)
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        partial.touch()
        partial.unlink()


def _partial(path):
    return path.with_name(f".{path.name}.partial")


def _write(path, made):
    """A file that appears whole or not at all."""
    partial = _partial(path)
    with writing(path):
        partial.write_text(WRITERS[path.suffix](made), encoding="utf-8")
        os.replace(partial, path)


def _as_csv(made):
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    runners_up = max((len(prediction.classes) for prediction in made), default=1) - 1
    columns = [f"runner_up_{i + 1}{what}" for i in range(runners_up) for what in ("", "_probability")]
    writer.writerow(["file", "class", "probability", *columns])
    for file, classes, probabilities in made:
        pairs = zip(classes, probabilities, strict=True)
        writer.writerow([file, *(cell for pair in pairs for cell in pair)])
    return stream.getvalue()


def _as_json_lines(made):
    lines = []
    for file, classes, probabilities in made:
        first, *others = (
            {"class": name, "probability": probability}
            for name, probability in zip(classes, probabilities, strict=True)
        )
        lines.append(json.dumps({"file": file} | first | {"runners_up": others}, ensure_ascii=False) + "\n")
    return "".join(lines)


WRITERS = {".csv": _as_csv, ".jsonl": _as_json_lines}
"""By the output file's suffix."""

cli = command(main, Arguments)
