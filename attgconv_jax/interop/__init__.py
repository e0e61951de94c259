"""Published weights of the reference PyTorch implementations in our networks, and those of escnn in our layers."""

from attgconv_jax.interop.escnn import load_escnn
from attgconv_jax.interop.escnn_convention import (
    escnn_elements,
    feature_map_from_escnn,
    feature_map_to_escnn,
    filter_bank_from_escnn,
    filter_bank_to_escnn,
)
from attgconv_jax.interop.files import read_state
from attgconv_jax.interop.reference import REFERENCE_NETWORKS, load_reference

__all__ = [
    "REFERENCE_NETWORKS",
    "escnn_elements",
    "feature_map_from_escnn",
    "feature_map_to_escnn",
    "filter_bank_from_escnn",
    "filter_bank_to_escnn",
    "load_escnn",
    "load_reference",
    "read_state",
]
