"""The networks of the papers."""

from attgconv_jax.models.rot_mnist import RotMNISTNet

__all__ = ["RotMNISTNet"]
