"""How far exported files are from trained networks: `python -m experiments.bench.exports`.

Every network of the registry, with every attention that it takes or a few, is trained briefly on the embedded digits,
then written as StableHLO and as ONNX with its preprocessing inside. Processes that cannot import this library, nor
Flax, nor JAX for ONNX, run the files on the digits' first 200 test images as `uint8`, in batches of 1, 7 and 64, and
their probabilities are compared with those of the classifier in this library. A file that is farther than the
tolerance, though it was not for noise, is written again with the test images to compare on. What is refused is written
once more with a tolerance that takes anything, to be compared as well, and so is the library's own result in float64.
Widths and depths are small, so that it takes an hour or two on a CPU. A measurement that was stopped is continued by
the same command.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flax import nnx

from attgconv_jax import OPERATORS
from attgconv_jax.export import export_network
from attgconv_jax.models import Classifier
from attgconv_jax.models.skeleton import ARRAYS
from experiments.bench import common, exported
from experiments.data import load
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.configuration import Config, OptimizerConfig, steps_per_epoch
from experiments.run.json_files import write_json
from experiments.run.loop import make_trainer
from experiments.run.model_configuration import ModelConfig, model
from experiments.run.runtime import Folder, command, describe_device, given_command, use_compilation_cache
from experiments.run.workdir import dataset_of, standardised

FORMATS = {"stablehlo": "zip", "onnx": "onnx"}
NEEDED = ("jax2onnx", "onnxruntime")
NOT_INSTALLED = "not installed"
BATCHES = {"1": (0, 1), "7": (1, 8), "64": (8, 72), "64, second": (72, 136), "64, third": (136, 200)}
"""Test images of every batch, from and to."""
LEARNING_RATE = 1e-2
ANYTHING = 1e30
"""A tolerance that refuses nothing finite."""

SMALL = {
    "rot_mnist": dict(features=(4,), dropout_rate=0.0),
    "all_cnn": dict(features=4, input_dropout_rate=0.0, dropout_rate=0.0),
    "cifar_resnet": dict(depth=8, features=4),
    "wide_resnet": dict(depth=10, widen_factor=2, features=4),
    "densenet": dict(features=4),
    "resnet": dict(depth=18, features=4),
    "lie_resnet": dict(features=(4, 4, 4), kernel_size=5, head_features=16, dropout_rate=0.0),
    "lie_all_cnn": dict(features=4, lifting_dropout_rate=0.0, dropout_rate=0.0),
}
"""Settings other than the defaults."""


def _cases() -> Iterator[tuple[str, ModelConfig]]:
    def case(network, group, attention="none", **options):
        shown = " ".join(str(value) for value in options.values())
        name = " ".join(filter(None, [network, group, attention, shown]))
        return name, model(network, group, attention, **SMALL[network] | options)

    for group in ("z2", "p4", "p4m"):
        for attention in ("none", *OPERATORS):
            yield case("rot_mnist", group, attention)
    for kind in ("gseparable", "separable"):
        yield case("rot_mnist", "p4", kind=kind)
        yield case("rot_mnist", "p4m", kind=kind)
    for group in ("z2", "p4", "p4m"):
        yield case("all_cnn", group)
    yield case("all_cnn", "p4", "input")
    yield case("cifar_resnet", "p4m")
    yield case("cifar_resnet", "p4m", "input")
    yield case("wide_resnet", "p4", "se")
    yield case("densenet", "p4")
    yield case("densenet", "p4", "input")
    for group in ("z2", "p4", "p4m"):
        yield case("resnet", group)
    yield case("resnet", "p4", "se")
    # The convolutions of this one have groups of channels.
    yield case("resnet", "p4", "sk", depth=50)
    for attention in ("none", "se", "input", "self"):
        yield case("lie_resnet", "SE2-4", attention)
    for kind in ("nonseparable", "gseparable"):
        yield case("lie_resnet", "SE2-4", kind=kind)
    yield case("lie_resnet", "Sim2-4x2", "se", kind="separable+2d")
    yield case("lie_resnet", "R2xR-2")
    yield case("lie_all_cnn", "SE2-4")
    yield case("lie_all_cnn", "SE2-4", "sge")


CASES = dict(_cases())


def _cell(format, show):
    """A function of a row that shows what was found of a format, or says that it was not tried."""
    return lambda row: row[format] if isinstance(row[format], str) else show(row[format])


def _difference(found):
    if "difference" not in found:
        return "does not convert"
    largest = f"{max(found['difference'].values()):.1e}"
    return f"refused ({largest})" if found["refused"] else largest


def _other_classes(found):
    return str(found.get("other_classes", "-"))


COLUMNS: dict[str, Column] = {
    "network": ("name", ""),
    "parameters": ("parameters", ","),
    "steps": ("steps", ""),
    "test error (%)": ("test_error_percent", ".1f"),
    "StableHLO": (_cell("stablehlo", _difference), ""),
    "other classes": (_cell("stablehlo", _other_classes), ""),
    "ONNX": (_cell("onnx", _difference), ""),
    "of ONNX": (_cell("onnx", _other_classes), ""),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures how far exported files are from trained networks."""

    networks: common.Networks = ()
    epochs: int = 4
    """Of training, on 1,000 digits."""
    pairwise_epochs: Annotated[int, tyro.conf.arg(help="The same with attention between pairs of positions.")] = 2
    batch_size: common.BatchSize = 25
    runs: Folder = pathlib.Path("runs/exports")
    """Folder of the networks' records."""


def main(arguments: Arguments) -> None:
    """Trains, exports and compares, prints a table and saves the figures."""
    use_compilation_cache()
    names = chosen("networks", arguments.networks, CASES)
    about = {name: getattr(arguments, name) for name in ("epochs", "pairwise_epochs", "batch_size")}
    about |= {"seeds": [0]} | {name: _version(name) for name in NEEDED}
    made_with = about | describe_device()
    training = {"learning_rate": LEARNING_RATE}
    results = common.Results(
        "exports", arguments.out, COLUMNS, command=given_command(), **about, **training, networks={}
    )
    arguments.runs.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = arguments.runs / f"{name.replace(' ', '-')}.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        if kept.get("made_with") != made_with:
            kept = {"made_with": made_with, "record": measure(CASES[name], arguments)}
            write_json(path, kept)
        results.add(kept["record"], name)


def measure(network: ModelConfig, arguments: Arguments) -> dict[str, Any]:
    """Figures of one network: what it is after training, and by format how far its file is from it."""
    attention = OPERATORS.get(network.attention)
    epochs = arguments.pairwise_epochs if attention is not None and attention.pairwise else arguments.epochs
    optimizer = OptimizerConfig(epochs=epochs, batch_size=arguments.batch_size, learning_rate=LEARNING_RATE)
    config = Config(model=network, optimizer=optimizer)
    classifier, record = trained(config)
    pixels, labels = test_pixels()
    batches = {name: pixels[slice(*places)] for name, places in BATCHES.items()}
    wanted = {name: np.asarray(classifier(images)) for name, images in batches.items()}
    found = np.concatenate([wanted[name].argmax(axis=1) for name in BATCHES])
    record["test_error_percent"] = 100 * float(np.mean(found != labels))
    with tempfile.TemporaryDirectory() as folder:
        for format in FORMATS:
            record[format] = of_format(format, classifier, batches, wanted, pathlib.Path(folder))
    refused = [format for format in FORMATS if isinstance(record[format], dict) and record[format]["refused"]]
    if refused:
        record["library_from_float64"] = _largest(wanted, _in_float64(config, classifier, batches))
    return record


def trained(config: Config) -> tuple[Classifier, dict[str, Any]]:
    """The network of a configuration as a classifier of `uint8`, and figures of its training."""
    dataset = standardised(config, dataset_of(config))
    trainer, per_epoch = make_trainer(config, dataset), steps_per_epoch(config, len(dataset.train))
    state = trainer.init(config.seeds)
    for _ in range(config.optimizer.epochs):
        state = trainer.train(state, dataset.train.images, dataset.train.labels, per_epoch)
    if bad := int(state.first_bad_step[0]):
        raise FloatingPointError(f"{config.model.name} with {config.model.attention} is not finite at step {bad}")
    preprocessing = dataclasses.replace(dataset.preprocessing, dtype="uint8")
    classifier = Classifier(trainer.network(state.params, state.rest, 0), preprocessing, dataset.class_names)
    return classifier, {
        "parameters": sum(leaf[0].size for leaf in jax.tree.leaves(state.params)),
        "steps": int(state.step[0]),
        "train_loss": float(state.loss[0]) / per_epoch,
    }


def test_pixels() -> tuple[np.ndarray, np.ndarray]:
    """The digits' first test images `[image, x, y, 1]` in 256 grey levels, and their labels."""
    test, count = load("digits").test, max(end for _, end in BATCHES.values())
    return np.round(255 * test.images[:count, :, :, 0]).astype(np.uint8), test.labels[:count]


def of_format(
    format: str,
    classifier: Classifier,
    batches: Mapping[str, np.ndarray],
    wanted: Mapping[str, np.ndarray],
    folder: pathlib.Path,
) -> dict[str, Any] | str:
    """How far a file is from the classifier; "not installed" where the format needs packages that are not there."""
    if format == "onnx" and NOT_INSTALLED in map(_version, NEEDED):
        return NOT_INSTALLED
    path, started = folder / f"network.{FORMATS[format]}", time.perf_counter()
    options = dict(format=format, shape=list(next(iter(batches.values())).shape[1:]))
    found: dict[str, Any] = {"refused": None}
    try:
        about = export_network(path, classifier, **options)
    except ValueError as error:
        found["refused"] = " ".join(str(error).split())
        try:
            about = export_network(path, classifier, tolerance=ANYTHING, **options)
        except ValueError:
            return found
    found |= {"export_s": time.perf_counter() - started, "bytes": path.stat().st_size}
    found["difference_of_noise"] = about["largest_difference"]
    got = run_apart(path, batches)
    found["difference"] = {name: float(np.max(np.abs(got[name] - wanted[name]))) for name in batches}
    if found["refused"] is None and max(found["difference"].values()) > about["tolerance"]:
        found["refused"] = _refusal(path, classifier, np.concatenate(list(batches.values())), options)
    found["other_classes"] = sum(int(np.sum(got[name].argmax(1) != wanted[name].argmax(1))) for name in batches)
    return found


def _refusal(path, classifier, images, options):
    """What is said where a file that passed on noise is to be written with the images to compare on."""
    path.unlink()
    try:
        export_network(path, classifier, images=images, **options)
    except ValueError as error:
        return " ".join(str(error).split())
    return None


def run_apart(path: pathlib.Path, batches: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Probabilities from a process that cannot import this library; see `experiments.bench.exported`."""
    images, out = path.with_name("images.npz"), path.with_name("out.npz")
    np.savez(images, **batches)
    # Isolated, so that neither the current folder nor PYTHONPATH is searched.
    subprocess.run([sys.executable, "-I", exported.__file__, images, path, out], check=True, cwd=path.parent)
    return dict(np.load(out))


def _largest(wanted, got):
    return max(float(np.max(np.abs(got[name] - wanted[name]))) for name in wanted)


def _in_float64(config, classifier, batches):
    """The same network's probabilities, of the same standardised images, computed in float64."""
    standardised_batches = {name: np.asarray(classifier.preprocessing(images)) for name, images in batches.items()}
    with jax.enable_x64(True):
        wide = dataclasses.replace(config.model, dtype="float64")
        network = wide.build(classifier.preprocessing.features, len(classifier.class_names), nnx.Rngs(0))
        network.eval()
        arrays = nnx.state(classifier.network, ARRAYS)
        nnx.update(network, jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), jnp.float64), arrays))
        evaluate = jax.jit(lambda images: jax.nn.softmax(network(images)))
        return {name: np.asarray(evaluate(images.astype(np.float64))) for name, images in standardised_batches.items()}


def _version(package):
    if importlib.util.find_spec(package) is None:
        return NOT_INSTALLED
    return importlib.metadata.version(package)


cli = command(main, Arguments)
