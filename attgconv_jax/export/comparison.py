"""What a file gives, compared with what the network gives."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attgconv_jax import kernels
from attgconv_jax.export.program import Program
from attgconv_jax.preprocessing import Preprocessing

# Roundings that two orders of the same sums may be apart: 1e-5 in float32.
_ROUNDINGS = 84

# How many times as far as one such change moves the network's logits those of a file may be.
_CHANGES = 100

# Smaller probabilities are not told apart; float32 has nothing below 1e-38.
_LEAST = 1e-35


def largest_difference(program: Program, run: Callable[[np.ndarray], Any], batch: int = 3) -> float:
    """How far what `run` gives for images of noise is from what the network gives; a `ValueError` if it is far.

    Of probabilities, logarithms are compared as well: those of a certain network are 0 and 1 whatever its logits are.
    Allowed is 1e-5 in float32, times the largest logit for logits and logarithms; more, but at most half of the digits,
    where the network itself gives no more digits: its logits move so much when its input is rounded once, or when its
    sums are taken in another order or precision.
    """
    images = _noise(program, batch)
    standardised = jax.jit(program.prepare)(images)
    logits = np.asarray(jax.jit(program.network)(standardised), np.float64)
    got, wanted = np.asarray(run(images), np.float64), logits
    scale = max(1.0, float(np.max(np.abs(logits))))
    compared = [(scale, got, logits)]
    if program.description["preprocessing"] is not None:
        wanted = _softmax(logits)
        compared = [(1.0, got, wanted), (scale, *(np.log(np.maximum(each, _LEAST)) for each in (got, wanted)))]
    precision = max(_epsilon(program.description["output"]["dtype"]), _epsilon(program.description["settings"]))
    differences = [(unit, float(np.max(np.abs(a - b)))) for unit, a, b in compared]
    if not all(difference <= _ROUNDINGS * precision * unit for unit, difference in differences):
        _check_conditioned(program, standardised, logits, differences, precision)
    return float(np.max(np.abs(got - wanted)))


def _check_conditioned(program, standardised, logits, differences, precision):
    """Raises a `ValueError` unless the network's own rounding explains these differences, each with its unit."""
    change = np.random.default_rng(1).choice([-precision, precision], np.shape(standardised))
    moved = (np.asarray(standardised, np.float64) * (1 + change)).astype(standardised.dtype)
    others = [jax.jit(program.network)(moved)]
    # Where products are rounded to fewer digits, as on GPUs.
    with jax.default_matmul_precision("highest"):
        others.append(jax.jit(program.network)(standardised))
    # In another order of the same sums.
    with kernels.portable():
        others.append(jax.jit(program.network)(standardised))
    rounding = max(float(np.max(np.abs(np.asarray(other, np.float64) - logits))) for other in others)
    most = precision**0.5 * max(1.0, float(np.max(np.abs(logits))))
    for unit, difference in differences:
        allowed = min(most, max(_ROUNDINGS * precision * unit, _CHANGES * rounding))
        if not difference <= allowed:
            raise ValueError(
                f"{program.description['network']} was not exported: the file's numbers are {difference:.2g} from the "
                f"network's, more than the {allowed:.2g} that rounding may do"
            )


def _noise(program, batch):
    """Pixels of a file, or standardised images."""
    noise = np.random.default_rng(0).random((batch, *program.images.shape[1:]))
    preprocessing = program.description["preprocessing"]
    noise = 4 * noise - 2 if preprocessing is None else noise * Preprocessing(**preprocessing).white
    return noise.astype(program.images.dtype)


def _softmax(logits):
    exponentials = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return exponentials / np.sum(exponentials, axis=-1, keepdims=True)


def _epsilon(of):
    """The distance of two numbers at 1, of a type or of what a network's settings say it computes in."""
    name = (of.get("dtype") if isinstance(of, Mapping) else of) or "float32"
    return float(jnp.finfo(name).eps)
