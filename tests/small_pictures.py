"""Small pictures of one's own, written to folders, and how the images of sets are compared with them."""

import numpy as np
from PIL import Image

from experiments.data import load


def picture(seed, shape=(12, 12), dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_class(folder, count, start=0, **options):
    for i in range(count):
        write(folder / f"{i}.png", picture(start + i, **options))


def two_classes(root):
    """Two classes, of 20 and 10 pictures of 12x12."""
    write_class(root / "set" / "cats", 20)
    write_class(root / "set" / "dogs", 10, start=100)
    return root / "set"


def three_splits(root):
    """Three splits of two classes, of 6, 2 and 3 pictures."""
    for i, (split, count) in enumerate({"train": 6, "val": 2, "test": 3}.items()):
        for j, name in enumerate("ab"):
            write_class(root / "splits" / split / name, count, start=100 * i + 10 * j)
    return root / "splits"


def folder(path, **options):
    return load("folder", path=path, **options)


def rows(*splits):
    """Images and labels of splits as bytes, sorted."""
    return sorted(
        image.tobytes() + bytes([label])
        for split in splits
        for image, label in zip(split.images, split.labels, strict=True)
    )


def expected_rows(pixels, labels):
    """The same of pixels of 8 bits, in their own size."""
    return sorted(
        (image / np.float32(255)).astype(np.float32).tobytes() + bytes([label])
        for image, label in zip(pixels, labels, strict=True)
    )
