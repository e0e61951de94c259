"""Published weights of other code in our networks, our networks as its state dicts, layers of escnn, and `inflate`."""

from attgconv_jax.interop.escnn import load_escnn
from attgconv_jax.interop.escnn_convention import (
    escnn_elements,
    feature_map_from_escnn,
    feature_map_to_escnn,
    filter_bank_from_escnn,
    filter_bank_to_escnn,
)
from attgconv_jax.interop.files import read_state, write_state
from attgconv_jax.interop.inflation import inflate
from attgconv_jax.interop.published import SOURCES, load_published, published_state
from attgconv_jax.interop.reference import REFERENCE_NETWORKS, load_reference

__all__ = [
    "REFERENCE_NETWORKS",
    "SOURCES",
    "escnn_elements",
    "feature_map_from_escnn",
    "feature_map_to_escnn",
    "filter_bank_from_escnn",
    "filter_bank_to_escnn",
    "inflate",
    "load_escnn",
    "load_published",
    "load_reference",
    "published_state",
    "read_state",
    "write_state",
]
