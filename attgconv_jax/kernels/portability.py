"""Tracing with the platform-independent implementation of every kernel."""

import contextlib
from collections.abc import Iterator

import jax

# Part of what JAX's caches depend on: what was traced outside is not taken inside, nor the reverse.
_PORTABLE = jax.make_user_context(default_value=False)


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Inside, what is traced takes the plain implementation of every kernel, whatever platform it is lowered for.

    That is `lax.conv_general_dilated`, all images at once, and for attention on responses its formulas, which store
    them. An implementation that is asked for by name is taken inside as well. Other threads are left as they are.
    """
    with _PORTABLE(True):
        yield


def is_portable() -> bool:
    """Whether the caller is inside of `portable`."""
    return _PORTABLE.value
