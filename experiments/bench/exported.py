"""Runs an exported file in a process that cannot import what made it: `python -I exported.py IMAGES FILE OUT`.

IMAGES is a `.npz` with batches of images, FILE is StableHLO in a ZIP archive, or ONNX; the probabilities go to
`.npz` OUT by the same names. It is run as a file, for it cannot import the package that it stands in.
"""

import importlib
import importlib.abc
import json
import sys
import zipfile

BLOCKED = ("attgconv_jax", "experiments", "flax", "jaxtyping", "optax", "orbax")
NOT_FOR_ONNX = ("jax", "jaxlib", "jax2onnx")


class Blocker(importlib.abc.MetaPathFinder):
    """Finds none of the blocked packages, and no finder after it is asked for them."""

    def __init__(self, names):
        self.names = names

    def find_spec(self, fullname, path=None, target=None):
        """Raises a `ModuleNotFoundError` for what is blocked."""
        if fullname.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"{fullname} is blocked", name=fullname)


def block(names) -> None:
    """Blocks packages, and ends the process unless importing them fails."""
    sys.meta_path.insert(0, Blocker(names))
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        sys.exit(f"{name} can be imported in spite of the block")


def main(images: str, path: str, out: str) -> None:
    """Blocks, proves that the block holds, and runs the file on every batch."""
    onnx = path.endswith(".onnx")
    block(BLOCKED + (NOT_FOR_ONNX if onnx else ()))
    # After the block.
    import numpy as np  # noqa: PLC0415

    classify = of_onnx(path) if onnx else of_stablehlo(path)
    np.savez(out, **{name: np.asarray(classify(batch)) for name, batch in np.load(images).items()})


def of_onnx(path):
    """A file of ONNX as a function."""
    import onnxruntime  # noqa: PLC0415

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["probabilities"], {"images": images})[0]


def of_stablehlo(path):
    """A file of StableHLO as a function."""
    import jax  # noqa: PLC0415
    import jax.export  # noqa: PLC0415

    with zipfile.ZipFile(path) as archive:
        about, program = json.loads(archive.read("network.json")), archive.read("network.stablehlo")
    if about["gives"] != "probabilities":
        sys.exit(f"{path} gives {about['gives']}")
    return jax.jit(jax.export.deserialize(bytearray(program)).call)


if __name__ == "__main__":
    main(*sys.argv[1:])
