"""Exports a run's network as a file that others can run: `python -m experiments.export RUN FILE`.

RUN is the work directory of `experiments.train`, of whose networks the best on validation is taken, or the folder of a
network that `attgconv_jax.models.save_network` wrote with its preprocessing. The file takes pixels as they come out of
a picture and gives probabilities; a process that loads it does not need this library. That of a run is compared with
the network on validation images as well as on noise. See `attgconv_jax.export.export_network`.
"""

import dataclasses
import pathlib
from typing import Annotated, Literal

import numpy as np
import tyro

from attgconv_jax import models
from attgconv_jax.export import export_network
from attgconv_jax.models.classifier import network_folder
from experiments.run.runtime import CompilationCache, Products, command, use_compilation_cache
from experiments.run.saved import precision_of, registered_description
from experiments.run.workdir import Run

IMAGES = 64
"""Of validation, on which a file is compared."""

LOADING = {
    "stablehlo": "jax.export.deserialize(bytearray(zipfile.ZipFile(FILE).read('network.stablehlo'))).call(images)",
    "onnx": "onnxruntime.InferenceSession(FILE).run(None, {'images': images})[0]",
}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Writes a network as one file that runs without this library."""

    path: tyro.conf.Positional[pathlib.Path]
    """Work directory of a run, or folder of a network."""
    file: Annotated[tyro.conf.Positional[pathlib.Path], tyro.conf.arg(metavar="FILE")]
    """To write; nothing must be there."""
    format: Literal["stablehlo", "onnx"] = "stablehlo"
    """StableHLO is run by JAX on any platform, ONNX by onnxruntime and others; it needs jax2onnx."""
    shape: tuple[int, int, int] | None = None
    """Of an image that goes in: pixels along x and y, channels. Default: as the preprocessing leaves it."""
    platforms: tuple[Literal["cpu", "cuda", "tpu"], ...] | None = None
    """That a file of StableHLO is to run on. Default: all."""
    tolerance: float | None = None
    """How far the file's probabilities may be from the network's. Default: 1e-5; in bfloat16 0.05."""
    logits: bool = False
    """The network alone: standardised images go in and logits come out."""
    precision: Products = None
    compilation_cache: CompilationCache = None


def main(arguments: Arguments) -> None:
    """Exports, and prints what was written."""
    use_compilation_cache(arguments.compilation_cache)
    if arguments.path.is_file():
        raise ValueError(f"path must be the folder of a run or of a saved network, got the file {arguments.path}")
    options = {name: getattr(arguments, name) for name in ("shape", "format", "platforms", "tolerance")}
    with precision_of(registered_description(network_folder(arguments.path)), arguments.precision):
        network = classifier = models.load_classifier(arguments.path)
        if arguments.logits:
            size, features = network.preprocessing.size, network.preprocessing.features
            options |= dict(class_names=network.class_names, shape=arguments.shape or (size, size, features))
            network = network.network
        if arguments.shape is None:
            options["images"] = _validation_images(arguments.path, classifier.preprocessing, arguments.logits)
        try:
            about = export_network(arguments.file, network, **options)
        except ImportError as error:
            raise ValueError(str(error)) from error
    _print(arguments, about)


def _validation_images(path, preprocessing, standardised):
    """The first validation images of a run as they go into its file; None where there are none to be read."""
    if not (path / "run.json").is_file():
        return None
    try:
        images = Run.open(path).dataset().validation.images[:IMAGES]
    except (ValueError, OSError) as error:
        print(f"note: compared on noise alone, since the run's images cannot be read: {error}")
        return None
    pixels = images[:, :, :, 0]
    if np.issubdtype(preprocessing.dtype, np.integer):
        pixels = np.rint(np.clip(pixels, 0, 1) * preprocessing.white)
    pixels = pixels.astype(preprocessing.dtype)
    return np.asarray(preprocessing(pixels)) if standardised else pixels


def _print(arguments, about):
    size = arguments.file.stat().st_size
    where = f"for {', '.join(about['platforms'])}" if "platforms" in about else f"opset {about['opset']}"
    names = about["class_names"]
    shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    print(f"{arguments.file}: {about['network']} as {arguments.format}, {where}, {size / 1e6:.2f} MB")
    print(f"takes {about['input']['dtype']} [{', '.join(map(str, about['input']['shape']))}]; gives {about['gives']}")
    print(f"classes: {shown}")
    x, y = about["input"]["shape"][1:3]
    if about["gives"] == "probabilities":
        print(f"pictures must have {x} x {y} pixels: bring others to that size, or give --shape for another size")
    if about["largest_difference"] is not None:
        print(
            f"largest difference to the network: {about['largest_difference']:.1e}, of {about['tolerance']:.1e} allowed"
        )
    print(f"load: {LOADING[arguments.format].replace('FILE', repr(str(arguments.file)))}")


cli = command(main, Arguments)
