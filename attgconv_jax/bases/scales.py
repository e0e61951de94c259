"""How large the functions of a basis are, for random filters to act as random filters of pixels do."""

import numpy as np
from jaxtyping import Float

# Along each axis of the grid of frequencies on which spectra are compared.
_FREQUENCIES = 32

# Steps of the fit; more make it no better, and the scales of functions that resemble each other less equal.
_STEPS = 30

# The least variance of a function's coefficient, over the mean.
_LEAST_VARIANCE = 0.01

# Of the network whose activations keep their variance: layers, and the largest frequency of its images.
_LAYERS, _BAND = 10, 1 / 8


def scales(table: Float[np.ndarray, "g u j"], lowpass: float | None) -> Float[np.ndarray, " j"]:
    """Factors of the functions, for which random filters have a flat spectrum, or a low-pass, and keep the variance.

    With coefficients of variance 1 the expected power spectrum of a filter is

        G(w) = sum over j of scale_j^2 mean over g of |Psi_j(g^-1 w)|^2

    A filter of independent pixels has the constant `k^2`. The scales bring `G` near `k^2 exp(-|w|^2 / (2 lowpass^2))`,
    or near the constant, by multiplicative updates of non-negative least squares, where frequency 0 counts as much as
    all others together; and one factor of all leaves ten layers with ReLUs with the variance that they are given.

    Source: our own; the updates are those of Lee and Seung 2001.
    """
    size = round(table.shape[1] ** 0.5)
    grid = table.reshape(len(table), size, size, -1)
    spectra = np.fft.fft2(grid, (_FREQUENCIES, _FREQUENCIES), axes=(1, 2))
    power = np.mean(np.abs(spectra) ** 2, axis=0).reshape(-1, table.shape[2]).T
    frequency = np.fft.fftfreq(_FREQUENCIES)
    radius2 = np.add.outer(frequency**2, frequency**2)
    wanted = size**2 * (np.ones(radius2.size) if lowpass is None else np.exp(-radius2.ravel() / (2 * lowpass**2)))
    weights = np.full(power.shape[1], 1 / power.shape[1])
    weights[0] += 1
    products, projected = (power * weights) @ power.T, (power * weights) @ wanted
    variances = np.full(len(power), size**2 / len(power))
    for _ in range(_STEPS):
        variances *= projected / (products @ variances)
    variances = np.maximum(variances, _LEAST_VARIANCE * np.mean(variances))
    gains = (variances @ power).reshape(radius2.shape) / size**2
    return np.sqrt(variances * _level(gains, radius2 <= _BAND**2))


def _level(gains, spectrum):
    """The factor on `gains` for which the variances of activations, layer by layer, are nearest to 1.

    Of a wide network of random filters with `G(w) = k^2 gains(w)` and weights of variance `2 / fan-in`, on images of
    the spectrum given. Its activations are Gaussian; a ReLU takes their covariance `v c(u)`, `c(0) = 1`, to

        v / (2 pi) (sqrt(1 - c^2) + (pi - arccos c) c)

    and the factor is that of the least squares of the variances' logarithms.

    Source: Cho and Saul 2009 (the ReLU); Novak et al. 2019, arXiv 1810.05148 (convolutions).
    """
    entering = np.fft.ifft2(spectrum / np.sum(spectrum)).real * spectrum.size
    logarithms = []
    for _ in range(_LAYERS):
        covariance = np.fft.ifft2(np.fft.fft2(entering) * gains).real
        variance = covariance[0, 0]
        logarithms.append(np.log(variance))
        c = np.clip(covariance / variance, -1, 1)
        # Times 2, the weights' variance over that of the first layer, whose input is no ReLU's.
        entering = variance / np.pi * (np.sqrt(1 - c**2) + (np.pi - np.arccos(c)) * c)
    layers = np.arange(1, _LAYERS + 1)
    return np.exp(-np.sum(layers * logarithms) / np.sum(layers**2))
