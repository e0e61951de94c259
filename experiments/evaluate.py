"""Evaluates a run, or a network on the disk: `python -m experiments.evaluate PATH`.

PATH is the work directory of `experiments.train`, also of a run that is not complete yet, or a network that
`attgconv_jax.models.save_network` or `python -m attgconv_jax.interop` wrote; a network is given its data by `--data`.
Prints the error on every split under three protocols, the equivariance error over the network's group (of a Lie group
over the quarter or half turns in its grid), and what turning the images by any angle does; writes the same with a
confusion table, pictures and a page that shows them, `report.html`, to a folder. `--beside OTHER` shows what another
network makes of the same images when they turn.
"""

import dataclasses
import functools
import pathlib
from typing import Annotated

import numpy as np
import tyro

from attgconv_jax import Group
from attgconv_jax.models import NETWORKS, load_network
from experiments.data import OWN_NAMES, DatasetName, load, own_name
from experiments.data.overlap import overlap_note
from experiments.report.findings import ANGLE_SECONDS, ANGLE_STEP, findings_of
from experiments.report.markdown import BEST_ON_TEST, ERROR_COLUMNS, error_rows, markdown_table
from experiments.report.measures import by_angle, by_element, equivariance_line, turning_line
from experiments.report.pages import write_page
from experiments.report.reports import draw_attention, report_of
from experiments.run.checks import check
from experiments.run.configuration import Directory
from experiments.run.evaluation import predict
from experiments.run.json_files import write_json
from experiments.run.loop import last_state, make_trainer
from experiments.run.runtime import (
    CompilationCache,
    Folder,
    Products,
    command,
    describe_device,
    given_command,
    use_compilation_cache,
    writing,
)
from experiments.run.saved import precision_of, registered_description
from experiments.run.waiting import doing
from experiments.run.workdir import Run, standardised

_PATH = "Where images of your own lie: the run's, if they were moved since, or those of --data folder or arrays."
MovedPath = Annotated[pathlib.Path | None, tyro.conf.arg(metavar="PATH", help=_PATH)]

_ANGLE_IMAGES = 500


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Evaluates a run or a network, in figures and in pictures."""

    path: tyro.conf.Positional[pathlib.Path]
    """Work directory of a run, or folder of a network."""
    data: DatasetName | None = None
    """Other data than the run's, standardised like the run's; a network without a run needs to be told."""
    directory: Directory = None
    data_path: MovedPath = None
    seed: int | None = None
    """Whose network, best on validation, is turned, drawn and its confusions counted. Default: the run's first."""
    images: tuple[int, ...] | None = None
    """Test images whose attention maps are drawn, of networks on finite groups. Default: the first three."""
    layer: int | None = None
    """Whose attention maps are drawn, from 0. Default: the first that has attention."""
    angle_step: float = ANGLE_STEP
    """Between the angles at which images are turned, in degrees; 360 must be a multiple."""
    angle_images: int | None = None
    """How many test images are turned. Default: 500, or all if there are fewer; less where it takes over a minute."""
    beside: pathlib.Path | None = None
    """Another run or network, of the same classes: what turning the images does to it is drawn beside."""
    precision: Products = None
    out: Folder | None = None
    """Folder for evaluation.json and the pictures. Default: evaluation inside PATH, of other data evaluation-DATA."""
    compilation_cache: CompilationCache = None

    def __post_init__(self):
        turns = 360 / self.angle_step if self.angle_step > 0 else 0
        if not 1 <= turns <= 720 or abs(turns - round(turns)) > 1e-9:
            raise ValueError(f"angle_step must divide 360 degrees and be at least 0.5, got {self.angle_step}")
        check("angle_images", self.angle_images, "at least 1", self.angle_images is None or self.angle_images >= 1)
        if self.data_path is not None and self.data not in (None, *OWN_NAMES):
            raise ValueError(f"--data-path is of --data {' or '.join(OWN_NAMES)}, got {self.data}; leave one out")
        if self.beside is not None and self.beside.resolve() == self.path.resolve():
            raise ValueError(f"beside must be another run or network than path, got {self.beside} for both")


def main(arguments: Arguments) -> None:
    """Evaluates, prints, draws."""
    use_compilation_cache(arguments.compilation_cache)
    for name, given in {"path": arguments.path, "beside": arguments.beside}.items():
        if given is not None and given.is_file():
            raise ValueError(f"{name} must be the folder of a run or of a saved network, got the file {given}")
    out = arguments.out or arguments.path / "-".join(["evaluation", *(arguments.data or "").split("/")]).rstrip("-")
    if out.exists() and not out.is_dir():
        raise ValueError(f"out must be a folder, got the file {out}")
    if (arguments.path / "network.json").exists():
        with precision_of(registered_description(arguments.path), arguments.precision):
            _evaluate(arguments, out, *_saved_network(arguments))
    else:
        run = Run.open(arguments.path)
        with precision_of(run.config().model, arguments.precision):
            _evaluate(arguments, out, *_network_of_run(arguments, run))


def _evaluate(arguments, out, network, dataset, report, metrics, others):
    name = arguments.path.resolve().name
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with doing("drawing attention"):
        attention = draw_attention(network, dataset, out / "attention.png", arguments.images, arguments.layer)
    found = findings_of(
        name,
        network,
        dataset,
        angle_images=arguments.angle_images or min(_ANGLE_IMAGES, len(dataset.test)),
        angle_step=arguments.angle_step,
        layer=arguments.layer,
        report=report,
        metrics=metrics,
        command=given_command(),
        attention=attention,
        seconds=None if arguments.angle_images else ANGLE_SECONDS,
    )
    step = 360 / (len(found.angles[name]) - 1)
    beside = {other: by_angle(*of, step, found.angle_images) for other, of in others.items()}
    found = dataclasses.replace(found, angles=found.angles | beside)
    with doing("measuring what every element of the group changes"):
        changes = by_element(network, dataset, report.get("equivariance_images"))
    evaluation = report | {
        "equivariance_by_element": changes,
        "angles": found.angles[name],
        "angle_images": found.angle_images,
        "beside": beside,
        "layers": found.layers,
        "confusion": found.confusion.tolist(),
    }
    write_json(out / "evaluation.json", evaluation)
    _print(evaluation, network.group)
    print(f"report with pictures: {write_page(out, found)}")


def _beside(arguments, loaded):
    """By name the network to compare with, if there is one, and the data as it sees them."""
    path = arguments.beside
    if path is None:
        return {}
    if (path / "network.json").exists():
        network, stored, class_names = _opened(path)
    else:
        run = Run.open(path)
        config, trained_on = run.config(arguments.directory), run.dataset(arguments.directory)
        trainer = make_trainer(config, trained_on, running_variance=run.running_variance)
        _, best, _ = last_state(run, trainer)
        network = trainer.network(best.params, best.rest, 0)
        stored, class_names = standardised(config, trained_on).preprocessing, trained_on.class_names
    whole = path.resolve()
    name = str(whole) if whole.name == arguments.path.resolve().name else whole.name
    return {name: (network, _as_seen(loaded, path, network, stored, class_names))}


def _network_of_run(arguments, run):
    """The network best on validation of one seed, its data, the run's report and metrics, and what is beside."""
    # With --data, the path is that of the other data.
    moved = arguments.data_path if arguments.data is None else None
    if moved is not None and run.description["config"].get("data.name") not in OWN_NAMES:
        raise ValueError(
            "--data-path is of runs on images of one's own: add --data folder or --data arrays, got "
            f"{run.workdir}, on {run.description['config'].get('data.name')}"
        )
    config, seeds = run.config(arguments.directory, moved), run.config().seeds
    seed = seeds[0] if arguments.seed is None else arguments.seed
    if seed not in seeds:
        raise ValueError(f"--seed must be one of the run's, {', '.join(map(str, seeds))}, got {seed}")
    trained_on = run.dataset(arguments.directory, moved)
    trainer = make_trainer(config, trained_on, running_variance=run.running_variance)
    state, best, spent = last_state(run, trainer)
    network = trainer.network(best.params, best.rest, seeds.index(seed))
    dataset = standardised(config, trained_on)
    # Of the run's seed, by which the sets of digits have the same digits in a split.
    options = dict(directory=arguments.directory, seed=config.data.seed)
    others = arguments.data not in (None, config.data.name) or arguments.data_path != moved
    if others:
        loaded = functools.partial(_loaded, arguments.data, path=arguments.data_path, **options)
        dataset = _as_seen(loaded, arguments.path, network, dataset.preprocessing, trained_on.class_names)
    else:
        options |= dict(test_images=config.data.test_images, shares=config.data.shares, broken=config.data.broken)
        loaded = functools.partial(_loaded, config.data.name, path=config.data.path, **options)
    beside = _beside(arguments, loaded)
    _check(arguments, network, dataset)
    with doing("evaluating the networks on all splits"):
        report = report_of(run, trainer, state, best, dataset, spent) | {"seed": seed}
    note = overlap_note(arguments.data, config.data.name) if others else None
    report |= {} if note is None else {"note": note}
    return network, dataset, report, run.metrics(), beside


def _saved_network(arguments):
    """The network, its data, its error on every split, no metrics, and what is beside."""
    path, place = arguments.path, arguments.data_path
    data = own_name(place) if arguments.data is None and place is not None else arguments.data
    if arguments.seed is not None:
        raise ValueError(f"--seed is of runs, and {path} is one network: leave it out")
    if data is None:
        raise ValueError(f"{path} is a network without a run: name its data, for example --data digits")
    network, stored, class_names = _opened(path)
    loaded = functools.partial(_loaded, data, directory=arguments.directory, seed=0, path=place)
    dataset = _as_seen(loaded, path, network, stored, class_names)
    beside = _beside(arguments, loaded)
    _check(arguments, network, dataset)
    errors = {
        name: [float(100 * np.mean(predict(network, split.images).argmax(axis=1) != split.labels))]
        for name, split in dataset.splits().items()
    }
    report = {"network": network.settings, "data": dict(dataset.provenance), **describe_device()}
    if data in OWN_NAMES:
        report["note"] = f"the test split may hold images that {path} was trained on"
    return network, dataset, report | {"as_loaded": {"error_percent": errors}}, [], beside


def _opened(path):
    """A saved network, its preprocessing and its class names, None where they were not saved with it."""
    names = registered_description(path).get("class_names")
    network = load_network(path)
    return network, getattr(network, "preprocessing", None), None if names is None else tuple(names)


def _loaded(name, size_of, *, directory, seed, **options):
    """A data set by name, brought to the size that `size_of` makes of that of its images; not standardised."""
    if name in OWN_NAMES and options["path"] is None:
        raise ValueError(f"--data {name} needs --data-path, where the images are")
    return load(name, directory, seed, size_of=size_of, **options).resized(size_of)


def _as_seen(loaded, path, network, stored, class_names):
    """The set that `loaded(size_of, ...)` makes, as a network sees it: by its preprocessing, if that is known.

    Raises a `ValueError` unless its classes are the network's: `class_names` or, if those are not known, their number.
    """
    if stored is None:
        dataset = loaded(functools.partial(_size_of, network))
    else:
        dataset = loaded(lambda pixels: stored.size, fit=stored.fit, background=stored.background)
    data, known = dataset.provenance.get("set", dataset.name), network.settings["classes"]
    if class_names is None and known != dataset.classes:
        raise ValueError(f"{path} tells {known} classes apart, but {data} has {dataset.classes}: choose other data")
    if class_names not in (None, dataset.class_names):
        raise ValueError(
            f"the classes of {dataset.name} are {', '.join(dataset.class_names)}, but {path} was trained on "
            f"{', '.join(class_names)}: choose other data"
        )
    return dataset.with_features(network.settings.get("in_features", dataset.in_features)).standardised(stored)


def _size_of(network, pixels):
    """The number of pixels that a network takes along an axis, of at least so many."""
    entry = next(entry for entry in NETWORKS.values() if entry.network is type(network))
    return entry.nearest_size(min(pixels, entry.size or pixels), network.group)


def _check(arguments, network, dataset):
    """Raises a `ValueError`, before anything is computed, unless there are such images, angles and layer."""
    count, layer, layers = len(dataset.test), arguments.layer, network.attending_layers
    if arguments.images is not None:
        wrong = [image for image in arguments.images if not 0 <= image < count]
        if wrong or not arguments.images:
            raise ValueError(f"images must be in 0 to {count - 1}, at least one, got {wrong or 'none'}")
    check("angle_images", arguments.angle_images, f"at most {count}", (arguments.angle_images or 1) <= count)
    if layer is None:
        return
    if not isinstance(network.group, Group):
        raise ValueError(f"layer {layer}: attention is drawn of finite groups, not of {network.group}")
    if not layers:
        raise ValueError(f"layer {layer}: the network has no attention to draw; leave out --layer")
    if layer not in layers:
        raise ValueError(f"layer must be one with attention: {', '.join(map(str, layers))}; got {layer}")


def _print(evaluation, group):
    if "note" in evaluation:
        print(f"note: {evaluation['note']}")
    told = f"; {BEST_ON_TEST}" if "best_on_test" in evaluation else ""
    print(f"error in percent on {evaluation['data']['set']}, mean and deviation over seeds{told}")
    print(markdown_table(ERROR_COLUMNS, error_rows(evaluation)))
    print(equivariance_line(group, max(evaluation["equivariance_by_element"])))
    print(turning_line(evaluation["angles"], evaluation["angle_images"]))


cli = command(main, Arguments)
