"""Filters, attention maps and equivariance in pictures. Needs matplotlib, else an `ImportError` is raised.

Networks are drawn in evaluation mode, of standardised images `[x, y, 1, c]`, shown in colour where there are three
channels, else as the mean over them. Any `nnx.Module` that takes them will do. Networks of `attgconv_jax.models` number
their layers; of others the convolutions and the attention of `attgconv_jax.nn`, and modules with a method
`attention_maps`, are found wherever they are, and named by their paths, such as `layers.2`, in the order in which they
are called.

What cannot be shown raises a `ValueError`: layers, channels or group elements that there are not, attention of another
kind, images with other axes. Figures are matplotlib's.
"""

from attgconv_jax.plotting.animation import turning_animation
from attgconv_jax.plotting.errors import equivariance_figure, layer_errors
from attgconv_jax.plotting.filters import filter_bank_figure, layer_filters_figure
from attgconv_jax.plotting.maps import attention_figure
from attgconv_jax.plotting.responses import response_figure

__all__ = [
    "attention_figure",
    "equivariance_figure",
    "filter_bank_figure",
    "layer_errors",
    "layer_filters_figure",
    "response_figure",
    "turning_animation",
]
