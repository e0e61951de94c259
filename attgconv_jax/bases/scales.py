"""How large the functions of a basis are, for random filters to act as random filters of pixels do."""

import numpy as np
from jaxtyping import Bool, Float

RADIUS = np.hypot(*np.meshgrid(np.fft.fftfreq(32), np.fft.fftfreq(32), indexing="ij"))
"""Of the frequencies at which spectra are compared, in cycles a pixel."""

# Steps of the fit; more make it no better, and the scales of functions that resemble each other less equal.
_STEPS = 30

# The least variance of a function's coefficient, over the mean.
_LEAST_VARIANCE = 0.01

# Of the network whose activations keep their variance.
_LAYERS = 10


def scales(table: Float[np.ndarray, "g u j"], lowpass: float | None) -> Float[np.ndarray, " j"]:
    """Factors of the functions, for which random filters have a flat spectrum, or a low-pass, and keep the variance.

    A filter of independent pixels of variance 1 has the constant expected spectrum `k^2`. The factors bring `spectrum`
    near `k^2 exp(-|w|^2 / (2 lowpass^2))`, or near the constant, by multiplicative updates of non-negative least
    squares, where frequency 0 counts as much as all others together; and one factor of all leaves the `variances`
    nearest to 1, by the least squares of their logarithms.

    Source: our own; the updates are those of Lee and Seung 2001.
    """
    pixels, power = table.shape[1], _powers(table)
    wanted = pixels * (np.ones(RADIUS.size) if lowpass is None else np.exp(-(RADIUS.ravel() ** 2) / (2 * lowpass**2)))
    weights = np.full(RADIUS.size, 1 / RADIUS.size)
    weights[0] += 1
    products, projected = (power * weights) @ power.T, (power * weights) @ wanted
    of_functions = np.full(len(power), pixels / len(power))
    for _ in range(_STEPS):
        of_functions *= projected / (products @ of_functions)
    of_functions = np.maximum(of_functions, _LEAST_VARIANCE * np.mean(of_functions))
    layers = np.arange(1, _LAYERS + 1)
    logarithms = np.log(variances((of_functions @ power).reshape(RADIUS.shape) / pixels, _LAYERS))
    return np.sqrt(of_functions * np.exp(-np.sum(layers * logarithms) / np.sum(layers**2)))


def spectrum(table: Float[np.ndarray, "g u j"]) -> Float[np.ndarray, "x y"]:
    """`mean over g of sum over j of |Psi_j(g^-1 w)|^2`, expected of filters with coefficients of variance 1."""
    return np.sum(_powers(table), axis=0).reshape(RADIUS.shape)


def variances(
    gains: Float[np.ndarray, "x y"], layers: int, images: Bool[np.ndarray, "x y"] = RADIUS <= 1 / 8
) -> Float[np.ndarray, " layers"]:
    """What the layers of a wide random network, with ReLUs between them, leave of an image's variance of 1.

    Weights have the variance `2 / fan-in` behind a ReLU, else `1 / fan-in`, times `gains`, the `spectrum` over that of
    independent pixels. Activations are then Gaussian, and a ReLU takes their covariance `v c(u)`, `c(0) = 1`, to

        v / (2 pi) (sqrt(1 - c^2) + (pi - arccos c) c)

    Args:
      gains: by frequency, as of `numpy.fft.fft2`.
      layers: how many.
      images: which frequencies they have, all of them alike.

    Source: Cho and Saul 2009 (the ReLU); Novak et al. 2019, arXiv 1810.05148 (convolutions).
    """
    entering = np.fft.ifft2(images / np.sum(images)).real * images.size
    left = []
    for _ in range(layers):
        covariance = np.fft.ifft2(np.fft.fft2(entering) * gains).real
        variance = covariance[0, 0]
        left.append(variance)
        c = np.clip(covariance / variance, -1, 1)
        entering = variance / np.pi * (np.sqrt(1 - c**2) + (np.pi - np.arccos(c)) * c)
    return np.array(left)


def _powers(table):
    """`|spectrum|^2` of every function, the mean over the group: `[function, frequency]`."""
    size = round(table.shape[1] ** 0.5)
    spectra = np.fft.fft2(table.reshape(len(table), size, size, -1), RADIUS.shape, axes=(1, 2))
    return np.mean(np.abs(spectra) ** 2, axis=0).reshape(-1, table.shape[2]).T
