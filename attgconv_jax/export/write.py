"""One file from a network: StableHLO or ONNX."""

import dataclasses
import importlib.util
import json
import os
import uuid
import zipfile
from collections.abc import Sequence
from typing import Any

import jax
import jax.export
import jax.extend.mlir
from jax.extend.mlir.dialects import stablehlo

from attgconv_jax import __version__
from attgconv_jax.checks import check_choice, check_path
from attgconv_jax.export.comparison import check_images, check_tolerance, compared, device_of
from attgconv_jax.export.onnx import REWRITES, onnx_model
from attgconv_jax.export.program import program
from attgconv_jax.preprocessing import Preprocessing

PLATFORMS = ("cpu", "cuda", "tpu")
"""What a file of StableHLO runs on."""

FORMATS = ("stablehlo", "onnx")


def export_network(
    path: str | os.PathLike,
    network: Any,
    *,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | None = None,
    shape: Sequence[int] | None = None,
    format: str = "stablehlo",
    platforms: Sequence[str] | None = None,
    tolerance: float | None = None,
    images: Any = None,
) -> dict[str, Any]:
    """Writes a network as one file, which runs without this library and takes batches of any length.

    The network is in evaluation mode, the network that is given stays as it is. With a preprocessing, pixels as they
    come out of a file go in and probabilities come out; without, standardised images and logits. All that depends on
    weights alone (filter banks, kernels of Lie groups) is computed once and written as constants, and every kernel of
    this library takes its plain implementation. What the file gives for images is compared with what the network gives
    before anything is written, on a CPU if the file runs there.

    A file of StableHLO is a ZIP archive of `network.stablehlo`, to be read by `jax.export.deserialize`, and
    `network.json`, which says what goes in and comes out, the class names, and the preprocessing. In a file of ONNX the
    same JSON is metadata, under "attgconv_jax"; its input is called "images", its output "logits" or "probabilities".

    >>> import json, pathlib, tempfile, zipfile
    >>> import jax.export, numpy as np
    >>> from flax import nnx
    >>> from attgconv_jax import cyclic
    >>> from attgconv_jax.export import export_network
    >>> from attgconv_jax.models import RotMNISTNet
    >>> from attgconv_jax.preprocessing import Preprocessing
    >>> network = RotMNISTNet(cyclic(4), features=2, rngs=nnx.Rngs(0))
    >>> path = pathlib.Path(tempfile.mkdtemp(), "digits.zip")
    >>> about = export_network(path, network, preprocessing=Preprocessing(28, mean=0.13, deviation=0.31))
    >>> with zipfile.ZipFile(path) as file:
    ...     about, program = json.loads(file.read("network.json")), file.read("network.stablehlo")
    >>> classify = jax.jit(jax.export.deserialize(bytearray(program)).call)
    >>> classify(np.zeros([7, 28, 28, 1], np.uint8)).shape
    (7, 10)

    Args:
      path: of the file to make, in a folder that exists.
      network: a module of the registry or of one's own, a function of images, or a classifier with its preprocessing.
      preprocessing: what is done to pixels before the network sees them.
      class_names: of the logits, in their order; None: "0", "1" and so on.
      shape: `[x, y, c]` of the images that go in; None: as the preprocessing leaves them, or as the network takes them.
      format: "stablehlo", which needs flatbuffers (the extra `export`), or "onnx", which needs jax2onnx and onnxruntime
        (`pip install jax2onnx onnxruntime`).
      platforms: that a file of StableHLO is to run on; None: all of `PLATFORMS`. A file of ONNX is for no platform.
      tolerance: how far the file's probabilities may be from the network's, and logits or the probabilities' logarithms
        from the network's in units of the largest logit; None: 1e-5, in float64 throughout 1e-9, with float16 1e-2 and
        with bfloat16 5e-2.
      images: to compare on, as they go in: beside three images of noise, for which a network may be steadier than for
        those that it was trained on. None: noise alone.

    Returns:
      What `network.json` holds, among it `largest_difference`, of the file's numbers to the network's, and
      `tolerance`; both are None where the file does not run here.

    Raises:
      FileExistsError: there is something at `path`.
      FileNotFoundError: there is no folder for `path`.
      ImportError: the format needs packages that are not installed.
      ValueError: the network cannot be exported, the file's numbers differ by more than the tolerance, or `path` ends
        as files of the other format do (`.zip`, `.onnx`); the message gives the reason.

    Source: our own.
    """
    check_choice("format", format, FORMATS)
    platforms, tolerance = _checked_platforms(platforms, format), check_tolerance(tolerance)
    if format == "stablehlo" and importlib.util.find_spec("flatbuffers") is None:
        # What `jax.export` serialises with, and does not declare.
        raise ImportError('format "stablehlo" needs flatbuffers: pip install "attgconv_jax[export]"')
    path = check_path(path)
    if {".onnx": "onnx", ".zip": "stablehlo"}.get(path.suffix, format) != format:
        raise ValueError(
            f'path must not end in {path.suffix} with format "{format}", got {path.name}: change one of them'
        )
    if os.path.lexists(path):
        raise FileExistsError(f"{path} exists: choose another path, or remove it first")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no directory {path.parent}")
    rewrites = REWRITES if format == "onnx" else None
    # What is computed once is computed in full precision, whatever device is at hand.
    with jax.default_device(device_of(["cpu"]) or jax.devices()[0]):
        exported = program(network, preprocessing, class_names, shape, rewrites)
    images = check_images(exported, images)
    about = {"format": 1, "library": f"attgconv_jax {__version__}", "jax": jax.__version__, **exported.description}
    if format == "onnx":
        contents, about = onnx_model(exported, about, tolerance, images)
    else:
        contents, about = _stablehlo(exported, about, platforms, tolerance, images)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        contents(partial)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return about


def _checked_platforms(platforms, format):
    """The platforms as a tuple."""
    if platforms is None:
        return PLATFORMS
    known = ", ".join(PLATFORMS)
    if not isinstance(platforms, list | tuple):
        raise ValueError(f"platforms must be a list of names among {known}, got {platforms!r}")
    unknown = [name for name in platforms if name not in PLATFORMS]
    if unknown or not platforms:
        raise ValueError(f"platforms must be among {known}, at least one, got {unknown or 'none'}")
    if len(set(platforms)) < len(platforms):
        raise ValueError(f"platforms must be different ones, got {platforms!r}")
    if format == "onnx":
        raise ValueError(f'platforms must be left out of format "onnx", which is for none of them, got {platforms!r}')
    return tuple(platforms)


def _stablehlo(exported, about, platforms, tolerance, images):
    """How to write the file, and what is known about it."""
    portable = _for_older_versions(jax.export.export(jax.jit(exported.folded), platforms=platforms)(exported.images))
    serialised = portable.serialize()
    device, agreement = device_of(platforms), {"largest_difference": None, "tolerance": None}
    if device is not None:
        # Read back, so that what is compared is what is written.
        agreement = compared(exported, jax.jit(jax.export.deserialize(serialised).call), tolerance, device, images)
    about |= {"platforms": list(platforms), **agreement}

    def write(path):
        with zipfile.ZipFile(path, "w") as file:
            for name, content in (("network.json", json.dumps(about, indent=2)), ("network.stablehlo", serialised)):
                # Of a fixed date: the same network gives the same file.
                file.writestr(zipfile.ZipInfo(name), bytes(content, "utf8") if isinstance(content, str) else content)

    return write, about


def _for_older_versions(portable):
    """The program in StableHLO of twelve weeks ago; JAX writes that of four, and JAX 0.10 cannot read that of 0.12."""
    age = stablehlo.StablehloCompatibilityRequirement.WEEK_12
    target = stablehlo.get_version_from_compatibility_requirement(age)
    serialised = jax.extend.mlir.serialize_portable_artifact(portable.mlir_module(), target)
    return dataclasses.replace(portable, mlir_module_serialized=serialised)
