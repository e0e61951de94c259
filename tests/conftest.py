"""Shared by all tests: float64, how programs are compiled, which cases are slow, and the reference data."""

import atexit
import collections
import gc
import itertools
import json
import os
import pathlib
import shutil
import tempfile

import hypothesis
import jax
import numpy as np
import pytest
from compilation import FLAGS

jax.config.update("jax_enable_x64", True)

# What one file or worker has compiled serves the others: the first process makes the folder, which its workers inherit.
if "ATTGCONV_TEST_CACHE" not in os.environ:
    os.environ["ATTGCONV_TEST_CACHE"] = tempfile.mkdtemp(prefix="attgconv-tests-")
    atexit.register(shutil.rmtree, os.environ["ATTGCONV_TEST_CACHE"], ignore_errors=True)
for _name, _value in {
    "jax_compilation_cache_dir": os.environ["ATTGCONV_TEST_CACHE"],
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}.items():
    jax.config.update(_name, _value)
    # For the processes that tests start: none writes to the cache of whoever runs the tests.
    os.environ[_name.upper()] = str(_value)

# Tracing makes many objects and hardly a cycle: to look for those a thousand times takes a tenth of the run.
gc.set_threshold(100_000, 50, 100)

# XLA reads them when its first program is compiled; the processes that tests start read them, too.
os.environ.setdefault("XLA_FLAGS", FLAGS)

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


def pytest_collection_modifyitems(config, items):
    """Marks as slow the cases of a test that do not run by default.

    Those that do are named by the test's marker `default`; without it they are a few in which every value of every
    parameter occurs. Cases that the command line names, or that failed before, are as slow as their tests.
    """
    if any("[" in word for word in config.args) or config.getoption("lf", False):
        return
    for name, group in itertools.groupby(items, key=lambda item: item.nodeid.partition("[")[0]):
        cases = [case for case in group if hasattr(case, "callspec") and not case.get_closest_marker("slow")]
        named = [marker for case in cases[:1] for marker in case.iter_markers("default")]
        chosen = _named(name, cases, named[0].args) if named else _covering(cases)
        for case in cases:
            if case not in chosen:
                case.add_marker(pytest.mark.slow)


def _named(name, cases, ids):
    known = {case.callspec.id: case for case in cases}
    if not {*ids} <= {*known}:
        raise pytest.UsageError(f"{name} has no case {', '.join({*ids} - {*known})}; it has {', '.join(known)}")
    return [known[i] for i in ids]


def _covering(cases):
    """Few cases with all values; among those that add as many, one whose values were chosen least."""
    values = {case: {(name, repr(value)) for name, value in case.callspec.params.items()} for case in cases}
    missing, chosen, times = set().union(*values.values()), [], collections.Counter()
    while missing:
        best = max(values, key=lambda case: (len(values[case] & missing), -sum(times[value] for value in values[case])))
        missing -= values[best]
        times.update(values.pop(best))
        chosen.append(best)
    return chosen


@pytest.fixture(autouse=True, scope="module")
def release_compiled_programs():
    """Forgets what one file compiled: a worker would else keep gigabytes that no other file asks for."""
    yield
    jax.clear_caches()
