"""One file an attention operator, of its name: its slow NumPy definition, random weights and variants.

A file defines

- `oracle(f, weights, group, **options)`: the formula in the operator's docstring; it shares no code with the library;
- `VARIANTS`: by name the options of the operator's function with which it is tested;
- `random_weights(array, c, h, order, variant)`: weights of a variant, made with `array(*shape)`, for feature maps of
  `c` channels and `h` group elements on a group of this order.

Feature maps are `[batch, x, y, h, c]`; weights reach the oracle as the library's tuples of NumPy arrays.
"""

import importlib
import itertools
import pathlib

from helpers import random

_FILES = {
    path.stem: importlib.import_module(f"operator_oracles.{path.stem}")
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py"))
    if path.stem not in ("__init__", "common")
}
ORACLES = {name: file.oracle for name, file in _FILES.items()}
VARIANTS = {variant: (name, options) for name, file in _FILES.items() for variant, options in file.VARIANTS.items()}


def weights_of(variant, c, h, order):
    """Random weights of a variant, the same for the same arguments."""
    number = itertools.count()
    name, _ = VARIANTS[variant]
    return _FILES[name].random_weights(lambda *shape: random(*shape, seed=next(number)), c, h, order, variant)
