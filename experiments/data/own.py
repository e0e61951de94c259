"""What data sets of one's own have in common: arguments, splits, copies, sizes, provenance.

Their sources take

- `seed`: of the splits, and of the order in them.
- `size_of`: makes the size of the set's images of the longer side of those that are read, or of the median of those.
- `fit`: how they are brought to that size; see `attgconv_jax.preprocessing.resize`.
- `shares`: of training, validation and test in every class; where validation alone is not given, of it in training.
- `test_images`: how many of the test split, the first; None: all.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np

SHARES = (0.7, 0.15, 0.15)
"""Of training, validation and test where a seed decides."""
SPLITS = ("train", "validation", "test")

Parts = Mapping[str, np.ndarray]
"""By split the indices of its images, in the split's order."""


def splits_of(
    given: Parts | None,
    names: Sequence[str],
    labels: np.ndarray,
    prints: Sequence[bytes],
    class_names: Sequence[str],
    *,
    shares: Mapping[str, float],
    seed: int,
    test_images: int | None,
) -> Parts:
    """The splits of a set: those `given`, or without such by the seed; copies among its images are reported.

    Arguments are those of `divided`; `names` are what the images are called.
    """
    if given is None:
        parts = divided(labels, prints, class_names, shares, seed)
    else:
        parts = as_given(given, labels, prints, class_names, shares, seed)
    parts = first_of_test(parts, test_images)
    say_copies(names, labels, prints, parts)
    return parts


def divided(
    labels: np.ndarray, prints: Sequence[bytes], class_names: Sequence[str], shares: Mapping[str, float], seed: int
) -> dict[str, np.ndarray]:
    """Divides every class by shares, at random; images of the same print stay together.

    Each part has at least one image of every class and comes in a random order, all of it decided by the seed.

    Args:
      labels: of the images, `[image]`.
      prints: of the images' bytes.
      class_names: by label.
      shares: by part, positive, of the sum 1.
      seed: of the one generator.

    Raises:
      ValueError: a class has fewer different images than there are parts, or none of its own.
    """
    generator, members = np.random.default_rng(seed), {}
    for index, content in enumerate(prints):
        members.setdefault(content, []).append(index)
    groups = list(members.values())
    label_of_group = np.array([labels[group[0]] for group in groups])
    parts = {name: [] for name in shares}
    for label, name in enumerate(class_names):
        chosen = generator.permutation(np.flatnonzero(label_of_group == label))
        if not len(chosen):
            copies = "only copies, byte for byte, of images of other classes"
            lack = copies if label in labels else "no image that can be read"
            raise ValueError(f"class {name} has {lack}: add images of it, or leave the class out")
        if len(chosen) < len(shares):
            copies = ", copies aside" if sum(len(groups[group]) for group in chosen) > len(chosen) else ""
            count = ("one image" if len(chosen) == 1 else f"{len(chosen)} images") + copies
            raise ValueError(
                f"class {name} has {count}, fewer than the {len(shares)} splits {', '.join(shares)}: add images of it, "
                "or leave the class out"
            )
        lacking = np.array(list(shares.values())) * sum(len(groups[group]) for group in chosen)
        for place, group in enumerate(chosen):
            part = place if place < len(shares) else int(lacking.argmax())
            lacking[part] -= len(groups[group])
            parts[list(shares)[part]] += groups[group]
    return {name: generator.permutation(np.array(indices)) for name, indices in parts.items()}


def by_shares(shares: Sequence[float]) -> dict[str, float]:
    """The shares of training, validation and test by name; a `ValueError` unless they divide all images."""
    if len(shares) != len(SPLITS) or not all(share > 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(
            f"data.shares must be three positive numbers of the sum 1, for training, validation and test, got {shares}"
        )
    return dict(zip(SPLITS, shares, strict=True))


def as_given(
    given: Parts,
    labels: np.ndarray,
    prints: Sequence[bytes],
    class_names: Sequence[str],
    shares: Mapping[str, float],
    seed: int,
) -> dict[str, np.ndarray]:
    """Splits as they are given, each in a random order; validation is held out of training where there is none.

    Raises:
      ValueError: a class is missing from a split, or too small to hold images out of.
    """
    for split, indices in given.items():
        missing = sorted({*range(len(class_names))} - {*labels[indices].tolist()})
        if missing:
            raise ValueError(
                f"class {class_names[missing[0]]} has no images in the {split} split: add some, or leave the class out "
                "of all splits"
            )
    generator, parts = np.random.default_rng(seed), dict(given)
    if "validation" not in given:
        train = given["train"]
        held_out = shares["validation"] / (shares["train"] + shares["validation"])
        inner = divided(
            labels[train],
            [prints[i] for i in train],
            class_names,
            {"train": 1 - held_out, "validation": held_out},
            seed,
        )
        parts |= {split: train[indices] for split, indices in inner.items()}
        print(
            f"note: there is no validation split, so {len(parts['validation'])} of the {len(train)} training images "
            "are held out for it, and not trained on"
        )
    return {split: generator.permutation(parts[split]) for split in SPLITS}


def first_of_test(parts: Parts, count: int | None) -> Parts:
    """The parts with the first `count` of the test split alone; None: all."""
    available = len(parts["test"])
    if count is not None and not 1 <= count <= available:
        raise ValueError(f"data.test_images must be 1 to {available}, the images of the test split, got {count}")
    return {**parts, "test": parts["test"][:count]}


def say_copies(names: Sequence[str], labels: np.ndarray, prints: Sequence[bytes], parts: Parts) -> None:
    """Prints what images with the same bytes there are, and warns where they stand in two splits or two classes."""
    split_of = {index: split for split, indices in parts.items() for index in indices.tolist()}
    first, copies, across, contradicting = {}, 0, [], []
    for index, content in enumerate(prints):
        if index not in split_of:
            continue
        other = first.setdefault(content, index)
        copies += other != index
        if split_of[other] != split_of[index]:
            across.append((other, index))
        if labels[other] != labels[index]:
            contradicting.append((other, index))
    for pairs, what in ((across, "split: what is tested was trained on"), (contradicting, "class: one label is wrong")):
        if pairs:
            where, _, why = what.partition(": ")
            example = " and ".join(f"{names[i]} ({split_of[i]})" for i in pairs[0])
            print(
                f"warning: {plural(len(pairs), 'image is a copy', 'images are copies')}, byte for byte, of images of "
                f"another {where}, and {why}; for example {example}"
            )
    if copies and not across:
        told = plural(copies, "image is a copy of another", "images are copies of others")
        print(f"note: {told}, byte for byte; they are in the same split")


def say_small_range(largest: int, dtype: str) -> None:
    """Prints a note where the largest training pixel is less than an eighth of what its type of integers can hold."""
    share = largest / np.iinfo(dtype).max
    if share < 1 / 8:
        print(
            f"note: the largest training pixel is {share:.3f} of white ({largest:,} in {dtype}), as of cameras of "
            "fewer bits: pictures that are classified later must be on the same scale"
        )


def plural(count: int, one: str, several: str) -> str:
    """The count before the words for one, or for several.

    >>> plural(1, "picture was", "pictures were"), plural(20, "picture was", "pictures were")
    ('1 picture was', '20 pictures were')
    """
    return f"{count:,} {one if count == 1 else several}"


def common_size(sides: Sequence[tuple[int, int]], size_of: Callable[[int], int], fit: str) -> int:
    """The size that `size_of` makes of the images' longer side, or of the median of those; printed if they differ."""
    longer = np.array([max(pair) for pair in sides])
    size = size_of(int(np.median(longer)))
    kinds = {tuple(sorted(pair)) for pair in sides}
    if kinds != {(size, size)}:
        sizes = (
            f"{len(kinds)} sizes, their longer sides {longer.min()} to {longer.max()} pixels, {int(np.median(longer))} "
            "the median,"
            if len(kinds) > 1
            else " x ".join(map(str, next(iter(kinds)))) + " pixels"
        )
        print(f"note: images of {sizes} are brought to {size} x {size} (fit {fit})")
    return size


def describe_own(
    name: str, seed: int, class_names: Sequence[str], labels: np.ndarray, prints: Sequence[bytes], parts: Parts
) -> dict[str, str]:
    """How a set of one's own came to be: as `experiments.data.dataset.describe`, of the bytes and with the classes."""
    figures = {"set": name, "version": "1", "seed": str(seed), "classes": json.dumps(list(class_names))}
    for split in SPLITS:
        digest = hashlib.sha256(b"".join(prints[i] for i in parts[split]))
        digest.update(np.ascontiguousarray(labels[parts[split]], "<i4"))
        figures |= {f"{split}_images": str(len(parts[split])), f"{split}_sha256": digest.hexdigest()}
    return figures
