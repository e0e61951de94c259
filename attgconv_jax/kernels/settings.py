"""What holds for all that is computed inside of a context: implementations of convolutions, precision of products."""

import contextlib
from collections.abc import Collection, Iterator
from typing import Literal, NamedTuple, get_args

import jax

from attgconv_jax.kernels.chunks import require_known

Precision = Literal["default", "high", "highest"]
"""Of products: the names of `jax.lax.Precision`."""

Dense = Literal["rows", "fourier", "xla"]
"""Implementations of dense convolutions; see `attgconv_jax.kernels.conv`."""

Depthwise = Literal["shifts", "xla"]
"""Those of depthwise ones; see `attgconv_jax.kernels.depthwise_conv`."""

Convolution = Literal["rows", "fourier", "shifts", "xla"]
"""Those of either."""

# Part of what JAX's caches depend on, as its own precision is.
_IMPLEMENTATION = jax.make_user_context(default_value=None)
_GROUP_AXIS = jax.make_user_context(default_value=None)


class Settings(NamedTuple):
    """What a kernel was called in, and keeps for its derivatives: those may be traced where something else holds."""

    implementation: str | None
    precision: str | None
    group_axis: str | None = None

    @classmethod
    def current(cls) -> "Settings":
        """What holds for the caller."""
        return cls(_IMPLEMENTATION.value, jax.config.jax_default_matmul_precision, _GROUP_AXIS.value)

    @classmethod
    def of_kernel(cls, implementation: str | None, names: Collection[str]) -> "Settings":
        """Those of a kernel with implementations of these names: `chosen`, and the caller's precision."""
        return cls(chosen(implementation, names), cls.current().precision)

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        """Inside, these hold."""
        with (
            _IMPLEMENTATION(self.implementation),
            _GROUP_AXIS(self.group_axis),
            jax.default_matmul_precision(self.precision),
        ):
            yield


@contextlib.contextmanager
def computing(
    *, implementation: str | None = None, precision: str | None = None, group_axis: str | None = None
) -> Iterator[None]:
    """Inside, convolutions take this implementation, and products are this precise; so are their derivatives.

    >>> import jax.numpy as jnp
    >>> from attgconv_jax import computing, cyclic, group_conv
    >>> with computing(implementation="rows", precision="highest"):
    ...     y = group_conv(jnp.ones([2, 8, 8, 1, 3]), jnp.ones([5, 5, 1, 3, 10]), cyclic(4))

    What is asked for further inside, or of a function by name, goes before. Other threads are left as they are.

    Options:
      implementation: "rows", "fourier" or "xla" of dense convolutions (see `attgconv_jax.kernels.conv`), "shifts" or
        "xla" of depthwise ones (see `attgconv_jax.kernels.depthwise_conv`). Those that have none of this name take the
        one for the platform, and attention on responses its own. None: as outside.
      precision: of all products, those of convolutions among them: "default", "high" or "highest", as of
        `jax.lax.Precision`. It is `jax.default_matmul_precision`, which other code reads as well. None: as outside,
        where JAX's own setting holds if nothing else does, which is "default" unless it is changed. In float32 and by
        "default", products on GPUs and TPUs may be of factors rounded to TF32 or bfloat16; those of "highest" are of
        float32. On CPUs all are of float32. What the library always computes with "highest" remains so.
      group_axis: of an explicit mesh, along which devices share the group elements that group convolutions and
        attention on responses compute: each has its part of their temporary arrays, inputs and weights whole, and in
        the end the outputs of all. For large groups and attention on responses. None: as outside, where each device
        computes all elements.

    Raises:
      ValueError: an unknown name; in a convolution, no explicit mesh has this axis, images are spread along it, or its
        devices cannot share the elements evenly.
    """
    check_computing(implementation, precision)
    current = Settings.current()
    given = implementation, precision, group_axis
    with Settings(*(new or old for new, old in zip(given, current, strict=True))).restored():
        yield


def check_computing(implementation: str | None, precision: str | None) -> None:
    """Raises a `ValueError` unless these are arguments of `computing`."""
    require_known(implementation, get_args(Convolution))
    check_precision(precision)


def check_precision(precision: str | None) -> None:
    """Raises a `ValueError` unless this is None or a name of `Precision`."""
    if precision is not None and precision not in get_args(Precision):
        known = ", ".join(f'"{name}"' for name in get_args(Precision))
        raise ValueError(f"precision must be None or one of {known}, got {precision!r}")


def chosen(implementation: str | None, names: Collection[str]) -> str | None:
    """The implementation that is asked for by name, else that of the context if it is one of `names`.

    A `ValueError` unless what is asked for is None or one of these.
    """
    require_known(implementation, names)
    outside = _IMPLEMENTATION.value
    return outside if implementation is None and outside in names else implementation
