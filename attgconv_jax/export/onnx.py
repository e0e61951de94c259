"""Files of ONNX, by way of jax2onnx."""

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax import lax

from attgconv_jax.export.comparison import compared, device_of
from attgconv_jax.export.program import Program


def _pad(operand, value, *, padding_config):
    """`lax.pad`, which jax2onnx 0.17 takes of no symbolic batch, by concatenation."""
    if any(interior for _, _, interior in padding_config):
        return lax.pad(operand, value, padding_config)
    for axis, (low, high, _) in enumerate(padding_config):
        length = operand.shape[axis]
        if low < 0 or high < 0:
            operand = lax.slice_in_dim(operand, max(0, -low), length - max(0, -high), axis=axis)
        before, after = (
            [lax.broadcast(value, (*operand.shape[:axis], width, *operand.shape[axis + 1 :]))] if width > 0 else []
            for width in (low, high)
        )
        if before or after:
            operand = lax.concatenate([*before, operand, *after], axis)
    return operand


def _reshape(operand, *, new_sizes, dimensions, **_):
    """`lax.reshape`, of which jax2onnx 0.17 forgets the axes' order, a transposition of its own."""
    return lax.reshape(operand if dimensions is None else lax.transpose(operand, dimensions), new_sizes)


REWRITES = {"pad": _pad, "reshape": _reshape}
"""What takes the places of primitives that jax2onnx does not convert, or converts wrongly."""


def onnx_model(
    exported: Program, about: dict[str, Any], tolerance: float | None = None, images: np.ndarray | None = None
) -> tuple[Callable, dict[str, Any]]:
    """How to write the file of a program, and what is known about it; compared with the network in onnxruntime.

    Raises:
      ImportError: jax2onnx or onnxruntime are not installed.
      ValueError: the program does not convert, or the file's numbers differ by more than the tolerance.
    """
    try:
        import jax2onnx  # noqa: PLC0415 (an extra, and slow to import)
        import onnxruntime  # noqa: PLC0415
    except ImportError as error:
        raise ImportError('format "onnx" needs jax2onnx and onnxruntime: pip install jax2onnx onnxruntime') from error
    double = {"float64"} & {str(exported.images.dtype), about["output"]["dtype"]}
    names = dict(model_name=about["network"], input_names=["images"], output_names=[about["gives"]])
    with _named(exported), _quiet():
        model = jax2onnx.to_onnx(exported.folded, [exported.images], enable_double_precision=bool(double), **names)
        content = model.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(batch):
        with _named(exported):
            return session.run(None, {"images": batch})[0]

    agreement = compared(exported, run, tolerance, device_of(["cpu"]) or jax.devices()[0], images)
    about |= {"opset": max(entry.version for entry in model.opset_import), **agreement}
    model.metadata_props.add(key="attgconv_jax", value=json.dumps(about))
    return lambda path: path.write_bytes(model.SerializeToString()), about


@contextlib.contextmanager
def _named(exported: Program) -> Iterator[None]:
    """Within it, whatever is raised becomes a `ValueError` that names the network and what takes it."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        attends = (exported.description["settings"] or {}).get("attention") is not None
        other = ", or another attention converts" if attends else ""
        raise ValueError(
            f'{exported.title} does not convert to ONNX: {reason}; format "stablehlo" takes it{other}'
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without onnx_ir's warning for every value whose type it infers later."""
    logger = logging.getLogger("onnx_ir.serde")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
