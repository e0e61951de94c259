"""Small sets as TFDS would have prepared them, written without TensorFlow."""

import io
import pathlib

import numpy as np
from PIL import Image

from experiments.data.prepared import open_builder


def write_small_set(name, directory, splits, file_format="array_record", label_names=None):
    """Writes `{split: (images, labels)}` where `prepared` looks for the set of that name; returns its folder.

    Images are `[image, row, column]` or, in colour, `[image, row, column, 3]`, uint8 (stored as PNG) or float32.
    """
    from array_record.python.array_record_module import ArrayRecordWriter
    from tensorflow_datasets.core import naming
    from tensorflow_datasets.core.splits import SplitDict, SplitInfo

    builder = open_builder(name, pathlib.Path(directory), file_format)
    folder = pathlib.Path(builder.data_path)
    folder.mkdir(parents=True)
    if label_names is not None:
        builder.info.features["label"].names = label_names
    infos = []
    for split, (images, labels) in splits.items():
        template = naming.ShardedFileTemplate(
            dataset_name=builder.name, data_dir=folder, split=split, filetype_suffix=file_format
        )
        writer = ArrayRecordWriter(str(folder / f"{builder.name}-{split}.{file_format}-00000-of-00001"), "group_size:1")
        for image, label in zip(images, labels, strict=True):
            writer.write(_record(image, label))
        writer.close()
        infos.append(SplitInfo(split, [len(labels)], images.nbytes, template))
    builder.info.set_splits(SplitDict(infos))
    builder.info.write_to_directory(folder)
    return folder


def random_images(count, seed=0, dtype=np.uint8, shape=(28, 28)):
    """Images `[image, *shape]`, all of uint8's values or uniform in [0, 1), and labels of all classes."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, *shape)).astype(np.uint8)
    if dtype != np.uint8:
        images = generator.uniform(size=images.shape).astype(dtype)
    return images, generator.permutation(np.arange(count) % 10)


def _record(image, label):
    from tensorflow_datasets.proto import tf_example_pb2

    example = tf_example_pb2.Example()
    features = example.features.feature
    for name in ("label", "coarse_label"):
        features[name].int64_list.value.append(int(label))
    features["id"].bytes_list.value.append(b"an id")
    for change in ("angle", "scale"):
        features[change].float_list.value.append(0.0)
    if image.dtype == np.uint8:
        png = io.BytesIO()
        Image.fromarray(image).save(png, "PNG")
        features["image"].bytes_list.value.append(png.getvalue())
    else:
        features["image"].float_list.value.extend(image.ravel().tolist())
    return example.SerializeToString()
