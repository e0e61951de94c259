"""MNIST in many sizes, and turned as well, as TFDS builders: regenerated from MNIST."""

import tensorflow_datasets as tfds

from experiments.data.builders.from_mnist import MADE, FromMnist

_SCALE = f"""\
MNIST's digits, each scaled once by a factor uniform in [0.3, 1]. Sizes and factors follow Sosnovik et al. 2020 (after
Kanazawa et al. 2014), but images, factors and splits are not theirs, so figures on it are not figures on their set.
Their splits hold the classes in equal proportions and their images are sampled by PIL's bicubic interpolation without
smoothing; here splits are drawn whatever the class, and what shrinks is smoothed.

{MADE}
"""

_ROT_SCALE = f"""\
MNIST's digits, each turned once by an angle uniform over the full circle and scaled by a factor uniform in [0.3, 1].
Angles and factors follow the MNIST-rot-scale of Knigge et al. 2022, but images, angles, factors and splits are not
theirs, so figures on it are not figures on their set. Theirs has 12,000 images for training and 8,000 for validation,
and PIL resamples them twice: they are turned, then bordered to a whole number of pixels and resized (both bicubic, the
second smoothed).

{MADE}
"""


class MnistScale(FromMnist):
    """MNIST-scale: `mnist_scale/regenerated` from MNIST."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="regenerated", description=_SCALE)]  # noqa: RUF012
    CHANGES = ("scale",)
    CITATION = "Sosnovik, Szmaja, Smeulders: Scale-Equivariant Steerable Networks. ICLR, 2020 (arXiv 1910.11093)."


class MnistRotScale(FromMnist):
    """MNIST-rot-scale: `mnist_rot_scale/regenerated` from MNIST."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="regenerated", description=_ROT_SCALE)]  # noqa: RUF012
    CHANGES = ("angle", "scale")
    CITATION = (
        "Knigge, Romero, Bekkers: Exploiting Redundancy: Separable Group Convolutional Networks on Lie Groups. ICML, "
        "2022 (arXiv 2110.13059)."
    )
