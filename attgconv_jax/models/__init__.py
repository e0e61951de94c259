"""The networks of the papers."""

from attgconv_jax.models.all_cnn import AllCNN
from attgconv_jax.models.checkpoint import load_network, save_network
from attgconv_jax.models.lie_all_cnn import LieAllCNN
from attgconv_jax.models.lie_resnet import LieResNet
from attgconv_jax.models.resnet import ResNet
from attgconv_jax.models.rot_mnist import RotMNISTNet

__all__ = ["AllCNN", "LieAllCNN", "LieResNet", "ResNet", "RotMNISTNet", "load_network", "save_network"]
