"""ResNets of torchvision."""

from attgconv_jax.interop.resnets import resnet_slots
from attgconv_jax.interop.source import Source, resnet

SOURCE = Source({f"resnet{depth}": resnet(depth) for depth in (18, 34, 50, 101)}, resnet_slots)
