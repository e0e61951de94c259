"""Published weights of the reference PyTorch implementations, in our networks."""

from attgconv_jax.interop.files import read_state
from attgconv_jax.interop.reference import REFERENCE_NETWORKS, load_reference

__all__ = ["REFERENCE_NETWORKS", "load_reference", "read_state"]
