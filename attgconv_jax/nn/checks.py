"""Checks of constructor arguments."""


def positive(**sizes: int) -> None:
    """Raises a `ValueError` unless every named size is an integer of at least 1."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a Python integer of at least 1, got {size!r}")


def odd(**sizes: int) -> None:
    """Raises a `ValueError` unless every named size of a filter is an odd integer of at least 1."""
    positive(**sizes)
    for name, size in sizes.items():
        if size % 2 == 0:
            raise ValueError(f"{name} must be odd, or attention is off centre, got {size}")
