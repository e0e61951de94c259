"""Filters, attention maps and equivariance, for people who would rather look than read. Needs matplotlib."""

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
