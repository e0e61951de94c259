"""Shared by all tests: float64, reference data, and what Hypothesis may take its time for."""

import atexit
import json
import os
import pathlib
import shutil
import tempfile

import hypothesis
import jax
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)

# What one file or worker has compiled serves the others: the first process makes the folder, which its workers inherit.
if "ATTGCONV_TEST_CACHE" not in os.environ:
    os.environ["ATTGCONV_TEST_CACHE"] = tempfile.mkdtemp(prefix="attgconv-tests-")
    atexit.register(shutil.rmtree, os.environ["ATTGCONV_TEST_CACHE"], ignore_errors=True)
jax.config.update("jax_compilation_cache_dir", os.environ["ATTGCONV_TEST_CACHE"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

hypothesis.settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("default")

REFERENCE = pathlib.Path(os.environ.get("ATTGCONV_REFERENCE", pathlib.Path(__file__).parents[2] / "shared/reference"))


class Reference(dict):
    """Arrays of one reference file by name, in float64, with its settings as `config`."""

    def __init__(self, path):
        with np.load(path) as file:
            super().__init__({name: self._cast(file[name]) for name in file.files if name != "config"})
            self.config = json.loads(str(file["config"])) if "config" in file.files else {}

    @staticmethod
    def _cast(array):
        return array.astype(np.float64) if array.dtype == np.float32 else array

    def under(self, prefix):
        """The arrays whose names start with `prefix/`, without it."""
        return {name[len(prefix) + 1 :]: array for name, array in self.items() if name.startswith(prefix + "/")}


@pytest.fixture
def reference():
    """Loads a file of the reference data; skips the test where there is none."""

    def load(name):
        if not REFERENCE.is_dir():
            pytest.skip(f"no reference data at {REFERENCE}; set ATTGCONV_REFERENCE")
        return Reference(REFERENCE / f"{name}.npz")

    return load


@pytest.fixture(autouse=True, scope="module")
def release_compiled_programs():
    """Forgets what one file compiled: a worker would else keep gigabytes that no other file asks for."""
    yield
    jax.clear_caches()
