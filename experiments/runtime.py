"""The process around a run: compilation cache, device, versions, and how errors reach a person."""

import importlib.metadata
import os
import pathlib
import platform
import sys
from collections.abc import Callable

import jax


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX has been told of another."""
    if jax.config.jax_compilation_cache_dir is None:
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(home) / "attgconv_jax" / "xla"))


def describe_device() -> dict[str, str]:
    """The device at hand and the versions that ran on it."""
    device = jax.devices()[0]
    packages = ("attgconv_jax", "jax", "jaxlib", "flax", "optax", "numpy")
    return {
        "device": device.device_kind,
        "platform": device.platform,
        "cpu_count": str(os.cpu_count()),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def exit_on_error(main: Callable[[], None]) -> None:
    """Runs a command; what the user got wrong is one line on stderr and exit code 2."""
    try:
        main()
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
