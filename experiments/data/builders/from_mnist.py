"""What the TFDS builders of sets regenerated from MNIST share."""

import numpy as np
import tensorflow_datasets as tfds

from experiments.data.regenerated import SEED, SIZES, choose_turns, turned_pixels

MADE = f"""\
10,000 images for training, 2,000 for validation, 50,000 for the test, disjoint, made from all 70,000 images of TFDS'
`mnist` (training and test set together), ordered by SHA-256 of pixels and label. `numpy.random.default_rng({SEED})`
draws first a permutation, whose first 62,000 images are the three splits, then the angles, then the factors: an image
is in the same split of all the regenerated sets, by the same angle and factor, and each leaves out what it does not
change. An image that shrinks is smoothed by `scipy.ndimage.gaussian_filter` (sigma 0.5 sqrt(1 / factor^2 - 1) pixels).
In one `scipy.ndimage.affine_transform` (cubic splines, order 3, zero outside) it is turned counter-clockwise and shrunk
about its centre, on the same grid of 28x28, then clipped to 0 to 255 and rounded to uint8. The feature `angle` is in
radians, the feature `scale` is the factor."""


class FromMnist(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A set of MNIST's digits, each changed once; what `CHANGES` names is drawn and kept as a feature.

    The examples stand in the builder's own order (TFDS' shuffling is off): it belongs to the set's definition.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (TFDS reads a plain class attribute)
    CHANGES: tuple[str, ...] = ()
    CITATION = ""

    def _info(self):
        image = tfds.features.Image(shape=(28, 28, 1), dtype=np.uint8)
        return self._info_of(image, {change: tfds.features.Scalar(dtype=np.float32) for change in self.CHANGES})

    def _info_of(self, image, changes):
        features = {"image": image, "label": tfds.features.ClassLabel(num_classes=10), **changes}
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            citation=self.CITATION,
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        mnist = tfds.builder("mnist", data_dir=self.data_dir_root, file_format="array_record")
        mnist.download_and_prepare()
        sources = [mnist.as_data_source(split) for split in ("train", "test")]
        examples = [example for source in sources for example in source.__getitems__(list(range(len(source))))]
        images = np.stack([example["image"][:, :, 0] for example in examples])
        labels = np.array([example["label"] for example in examples])
        return {
            name: self._generate_changed(images[turns.indices], labels[turns.indices], turns)
            for name, turns in choose_turns(images, labels, SIZES, SEED).items()
        }

    def _generate_changed(self, images, labels, turns):
        drawn = {"angle": turns.angles, "scale": turns.scales}
        for key, (image, label) in enumerate(zip(images, labels, strict=True)):
            changes = {change: drawn[change][key] for change in self.CHANGES}
            yield key, {"image": turned_pixels(image, **changes)[:, :, None], "label": int(label), **changes}

    def _generate_examples(self):
        """TFDS wants it; the splits' generators are made above."""
        raise NotImplementedError
