"""Sets that have images in common, so that a network may be tested on some that it was trained on."""

from experiments.data.prepared import REGENERATED

OF_MNIST = {"mnist", "rot_mnist/original", *REGENERATED}
"""Sets made of the same digits."""
CIFAR10 = {"cifar10", "cifar10/binary"}
"""Two forms of one set, in another order each."""


def overlap_note(name: str, trained_on: str) -> str | None:
    """What is to be known of figures on one set, of a network trained on another; None: nothing."""
    if share_digits({name, trained_on}):
        return f"{name} and {trained_on} share digits: it was trained on some that are tested"
    if {name, trained_on} == CIFAR10:
        share = "about 90 % of its validation split were trained on, none of its test split"
        return f"{name} and {trained_on} are the same images: {share}"
    return None


def share_digits(names: set[str]) -> bool:
    """Whether digits of one set's test split may be in another's training split; the regenerated ones split alike."""
    return names <= OF_MNIST and not names <= set(REGENERATED)
