"""What a file gives, compared with what the network gives."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attgconv_jax import kernels
from attgconv_jax.export.program import Program
from attgconv_jax.preprocessing import Preprocessing

TOLERANCES = {"float64": 1e-9, "float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
"""How far a file's probabilities may be from the network's, by the coarsest type that it computes in."""

# Smaller probabilities are not told apart; float32 has nothing below 1e-38.
_LEAST = 1e-35


def check_tolerance(tolerance: Any) -> float | None:
    """The tolerance as Python's number; a `ValueError` unless it is None, or positive and finite."""
    if tolerance is None:
        return None
    number = isinstance(tolerance, int | float | np.integer | np.floating) and not isinstance(tolerance, bool)
    if not (number and tolerance > 0 and math.isfinite(tolerance)):
        raise ValueError(f"tolerance must be a positive number, such as 1e-4, or None, got {tolerance!r}")
    return float(tolerance)


def device_of(platforms: Sequence[str]) -> jax.Device | None:
    """Where a file is compared: a CPU if it runs there, else the default device; None if it does not run there either.

    Other devices round products of float32 to fewer digits.
    """
    default = jax.devices()[0]
    if "cpu" in platforms:
        try:
            return default if default.platform == "cpu" else jax.devices("cpu")[0]
        except RuntimeError:
            # JAX was told to use other platforms alone.
            pass
    return default if {"gpu": "cuda"}.get(default.platform, default.platform) in platforms else None


def check_images(program: Program, images: Any) -> np.ndarray | None:
    """Images to compare on, as an array; a `ValueError` unless they are as they go into the file, or None."""
    if images is None:
        return None
    images, wanted = np.asarray(images), program.images
    if images.ndim != len(wanted.shape) or images.shape[1:] != wanted.shape[1:] or images.dtype != wanted.dtype:
        shape = ", ".join(map(str, wanted.shape))
        raise ValueError(
            f"images must be {wanted.dtype}[{shape}], as they go into the file, got {images.dtype}{list(images.shape)}"
        )
    if not len(images):
        raise ValueError("images must be at least one, or None for noise alone, got none")
    return images


def compared(
    program: Program,
    run: Callable[[np.ndarray], Any],
    tolerance: float | None,
    device: jax.Device,
    images: np.ndarray | None = None,
    batch: int = 3,
) -> dict[str, float]:
    """How far a file's numbers for images are from the network's, as "largest_difference", and "tolerance".

    Of probabilities, logarithms are compared as well: those of a certain network are 0 and 1 whatever its logits are.
    Logits and logarithms may differ by the tolerance times the largest logit.

    Args:
      program: what was exported.
      run: the file, as a function of images.
      tolerance: None: that of `TOLERANCES` for the coarsest type of images, network and device.
      device: to compute on.
      images: to compare on beside noise; None: noise alone.
      batch: how many images are computed at a time.

    Raises:
      ValueError: they are farther; the message says how far rounding moves the network's own numbers.
    """
    parts = [("images of noise", _noise(program, batch))]
    for start in range(0, 0 if images is None else len(images), batch):
        parts.append(("the images given", images[start : start + batch]))
    prepare, network, largest = jax.jit(program.prepare), jax.jit(program.network), 0.0
    with jax.default_device(device):
        for name, part in parts:
            standardised = prepare(part)
            logits = network(standardised)
            if tolerance is None:
                tolerance = _tolerance(program, logits.dtype, device)
            wanted = np.asarray(logits, np.float64)
            if program.description["preprocessing"] is not None:
                wanted = softmax(wanted)
            got = np.asarray(run(part), np.float64)
            difference = _difference(program, got, wanted, logits)
            if not difference <= tolerance:
                others = _rounded(program, standardised)
                rounding = max(_difference(program, other, wanted, logits) for other in others)
                raise ValueError(_message(program, name, difference, tolerance, rounding))
            largest = max(largest, difference)
    return {"largest_difference": largest, "tolerance": tolerance}


def _tolerance(program, dtype, device):
    """That of the coarsest type; pixels that are integers become float32."""
    settings = program.description["settings"] or {}
    names = [str(program.images.dtype), str(dtype), settings.get("dtype") or str(dtype)]
    if device.platform != "cpu":
        names.append("float16")
    return max(TOLERANCES.get(name, TOLERANCES["float32"]) for name in names)


def _difference(program, got, wanted, logits):
    """The largest difference of probabilities, or, by the largest logit, of their logarithms or of logits."""
    scale = max(1.0, float(np.max(np.abs(np.asarray(logits, np.float64)))))
    if program.description["preprocessing"] is None:
        return float(np.max(np.abs(got - wanted))) / scale
    logarithms = [np.log(np.maximum(each, _LEAST)) for each in (got, wanted)]
    # The larger of the two, and NaN if either is.
    return float(np.maximum(np.max(np.abs(got - wanted)), np.max(np.abs(np.subtract(*logarithms))) / scale))


def _rounded(program, standardised):
    """The network's numbers with its input rounded once more, and with its sums in another order."""
    precision = float(jnp.finfo(standardised.dtype).eps)
    change = np.random.default_rng(1).choice([-precision, precision], np.shape(standardised))
    moved = (np.asarray(standardised, np.float64) * (1 + change)).astype(standardised.dtype)
    others = [jax.jit(program.network)(moved)]
    with kernels.portable():
        others.append(jax.jit(program.network)(standardised))
    numbers = [np.asarray(other, np.float64) for other in others]
    return numbers if program.description["preprocessing"] is None else [softmax(logits) for logits in numbers]


def _message(program, images, difference, tolerance, rounding):
    """Why a file is not written, and what to do."""
    message = (
        f"{program.title} was not exported: for {images} the file's numbers are {difference:.3g} from the network's, "
        f"more than {tolerance:.2g}"
    )
    if not math.isfinite(difference):
        return f"{message}; one of them is not finite"
    # Two digits, rounded up.
    enough = float(f"{1.06 * difference:.1e}")
    return (
        f"{message}; rounding alone moves the network's own by {rounding:.2g}. To accept that, pass "
        f"tolerance={enough:.2g} (--tolerance {enough:.2g})"
    )


def _noise(program, batch):
    """Pixels of a file, or standardised images."""
    noise = np.random.default_rng(0).random((batch, *program.images.shape[1:]))
    preprocessing = program.description["preprocessing"]
    noise = 4 * noise - 2 if preprocessing is None else noise * Preprocessing(**preprocessing).white
    return noise.astype(program.images.dtype)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits, in NumPy."""
    exponentials = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return exponentials / np.sum(exponentials, axis=-1, keepdims=True)
