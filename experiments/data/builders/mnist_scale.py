"""MNIST in many sizes, and turned as well, as TFDS builders: regenerated from MNIST."""

import tensorflow_datasets as tfds

from experiments.data.builders.from_mnist import FromMnist
from experiments.data.regenerated import SEED

_SCALE = f"""\
MNIST's digits, each scaled once by a factor uniform in [0.3, 1]: 10,000 for training, 2,000 for validation, 50,000 for
the test, disjoint. Sizes and factors follow Sosnovik et al. 2020 (after Kanazawa et al. 2014), but images, factors and
splits are not theirs, so figures on it are not figures on their set. Their splits hold the classes in equal proportions
and their images are sampled by PIL's bicubic interpolation without smoothing; here splits are drawn whatever the class,
and what shrinks is smoothed.

Made from all 70,000 images of TFDS' `mnist` (training and test set together), ordered by SHA-256 of pixels and label.
`numpy.random.default_rng({SEED})` draws first a permutation, whose first 62,000 images are the three splits, then
angles, which this set leaves out, then the factors: splits are those of `rot_mnist/regenerated`, factors those of
`mnist_rot_scale/regenerated`. An image is smoothed by `scipy.ndimage.gaussian_filter` (sigma 0.5 sqrt(1 / factor^2 - 1)
pixels), shrunk about its centre by `scipy.ndimage.affine_transform` (cubic splines, order 3, zero outside) on the same
grid of 28x28, clipped to 0 to 255 and rounded to uint8. The feature `scale` is the factor.
"""

_ROT_SCALE = f"""\
MNIST's digits, each turned once by an angle uniform over the full circle and scaled by a factor uniform in [0.3, 1]:
10,000 for training, 2,000 for validation, 50,000 for the test, disjoint. Angles and factors follow the MNIST-rot-scale
of Knigge et al. 2022, but images, angles, factors and splits are not theirs, so figures on it are not figures on their
set. Theirs has 12,000 images for training and 8,000 for validation, and PIL resamples them twice: they are turned, then
bordered to a whole number of pixels and resized (both bicubic, the second smoothed).

Made from all 70,000 images of TFDS' `mnist` (training and test set together), ordered by SHA-256 of pixels and label.
`numpy.random.default_rng({SEED})` draws first a permutation, whose first 62,000 images are the three splits, then the
angles, then the factors: splits and angles are those of `rot_mnist/regenerated`, factors those of
`mnist_scale/regenerated`. An image is smoothed by `scipy.ndimage.gaussian_filter` (sigma 0.5 sqrt(1 / factor^2 - 1)
pixels), turned counter-clockwise and shrunk about its centre in one `scipy.ndimage.affine_transform` (cubic splines,
order 3, zero outside) on the same grid of 28x28, clipped to 0 to 255 and rounded to uint8. The feature `angle` is in
radians, the feature `scale` is the factor.
"""

_SCALE_CITATION = """\
@inproceedings{sosnovik2020scale,
  title={Scale-Equivariant Steerable Networks},
  author={Sosnovik, Ivan and Szmaja, Micha{\\l} and Smeulders, Arnold},
  booktitle={International Conference on Learning Representations},
  year={2020}
}
"""

_ROT_SCALE_CITATION = """\
@inproceedings{knigge2022exploiting,
  title={Exploiting Redundancy: Separable Group Convolutional Networks on {L}ie Groups},
  author={Knigge, David M. and Romero, David W. and Bekkers, Erik J.},
  booktitle={International Conference on Machine Learning},
  year={2022}
}
"""


class MnistScale(FromMnist):
    """MNIST-scale: `mnist_scale/regenerated` from MNIST."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="regenerated", description=_SCALE)]  # noqa: RUF012
    CHANGES = ("scale",)
    CITATION = _SCALE_CITATION


class MnistRotScale(FromMnist):
    """MNIST-rot-scale: `mnist_rot_scale/regenerated` from MNIST."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="regenerated", description=_ROT_SCALE)]  # noqa: RUF012
    CHANGES = ("angle", "scale")
    CITATION = _ROT_SCALE_CITATION
