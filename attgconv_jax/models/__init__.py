"""The networks of the papers, one file each, and the registry by which they are found.

A new file here that registers a network is saved, loaded, drawn and trained by its name.
"""

import sys

from attgconv_jax.attention.operator import register_files
from attgconv_jax.models.all_cnn import AllCNN
from attgconv_jax.models.base import NETWORKS, Network, register
from attgconv_jax.models.checkpoint import load_network, save_network
from attgconv_jax.models.cifar_resnet import CIFARResNet
from attgconv_jax.models.classifier import Classifier, load_classifier
from attgconv_jax.models.densenet import DenseNet
from attgconv_jax.models.lie_all_cnn import LieAllCNN
from attgconv_jax.models.lie_resnet import LieResNet
from attgconv_jax.models.resnet import ResNet
from attgconv_jax.models.rot_mnist import RotMNISTNet
from attgconv_jax.models.wide_resnet import WideResNet

register_files(sys.modules[__name__])
globals().update({entry.network.__name__: entry.network for entry in NETWORKS.values()})

__all__ = [
    "NETWORKS",
    "AllCNN",
    "CIFARResNet",
    "Classifier",
    "DenseNet",
    "LieAllCNN",
    "LieResNet",
    "Network",
    "ResNet",
    "RotMNISTNet",
    "WideResNet",
    "load_classifier",
    "load_network",
    "register",
    "save_network",
]
