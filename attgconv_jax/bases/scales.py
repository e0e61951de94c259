"""Scale factors of the functions of a basis, for which random filters behave as random filters of pixels do."""

import numpy as np
from jaxtyping import Bool, Float

# Along each axis of the grid of frequencies on which spectra are compared; twice as many as pixels at least.
_FREQUENCIES = 32

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
    count = power.shape[1]
    radius = radii(round(count**0.5)).ravel()
    wanted = pixels * (np.ones(count) if lowpass is None else np.exp(-(radius**2) / (2 * lowpass**2)))
    weights = np.full(count, 1 / count)
    weights[0] += 1
    products, projected = (power * weights) @ power.T, (power * weights) @ wanted
    of_functions = np.full(len(power), pixels / len(power))
    for _ in range(_STEPS):
        of_functions *= projected / (products @ of_functions)
    of_functions = np.maximum(of_functions, _LEAST_VARIANCE * np.mean(of_functions))
    layers = np.arange(1, _LAYERS + 1)
    logarithms = np.log(variances(_square(of_functions @ power) / pixels, _LAYERS))
    return np.sqrt(of_functions * np.exp(-np.sum(layers * logarithms) / np.sum(layers**2)))


def spectrum(table: Float[np.ndarray, "g u j"]) -> Float[np.ndarray, "x y"]:
    """`mean over g of sum over j of |Psi_j(g^-1 w)|^2`, expected of filters with coefficients of variance 1."""
    return _square(np.sum(_powers(table), axis=0))


def radii(size: int) -> Float[np.ndarray, "x y"]:
    """Of frequencies in cycles a pixel, on a square grid as of `numpy.fft.fft2`."""
    frequency = np.fft.fftfreq(size)
    return np.hypot(frequency[:, None], frequency[None, :])


def variances(
    gains: Float[np.ndarray, "x y"], layers: int, images: Bool[np.ndarray, "x y"] | None = None
) -> Float[np.ndarray, " layers"]:
    """What the layers of a wide random network, with ReLUs between them, leave of an image's variance of 1.

    Weights have the variance `2 / fan-in` behind a ReLU, else `1 / fan-in`, times `gains`, the `spectrum` over that of
    independent pixels. Activations are then Gaussian, and a ReLU takes their covariance `v c(u)`, `c(0) = 1`, to

        v / (2 pi) (sqrt(1 - c^2) + (pi - arccos c) c)

    which the 2 of the weights doubles.

    Args:
      gains: by frequency, as of `numpy.fft.fft2`.
      layers: how many.
      images: which frequencies they have, all of them alike; None: those up to 1/8 cycle a pixel, but 0.

    Source: Cho and Saul 2009 (the ReLU); Novak et al. 2019, arXiv 1810.05148 (convolutions).
    """
    if images is None:
        radius = radii(len(gains))
        images = (radius > 0) & (radius <= 1 / 8)
    entering = np.fft.ifft2(images / np.sum(images)).real * images.size
    left = []
    for _ in range(layers):
        covariance = np.fft.ifft2(np.fft.fft2(entering) * gains).real
        variance = covariance[0, 0]
        left.append(variance)
        c = np.clip(covariance / variance, -1, 1)
        behind_relu = variance / (2 * np.pi) * (np.sqrt(1 - c**2) + (np.pi - np.arccos(c)) * c)
        entering = 2 * behind_relu
    return np.array(left)


def _powers(table):
    """`|spectrum|^2` of every function, the mean over the group: `[function, frequency]`."""
    size = round(table.shape[1] ** 0.5)
    shape = (max(_FREQUENCIES, 2 * size),) * 2
    spectra = np.fft.fft2(table.reshape(len(table), size, size, -1), shape, axes=(1, 2))
    return np.mean(np.abs(spectra) ** 2, axis=0).reshape(-1, table.shape[2]).T


def _square(values):
    """Values by frequency on their grid."""
    return values.reshape(2 * (round(len(values) ** 0.5),))
