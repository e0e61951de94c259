"""The package as a whole: who imports whom, how long it takes, and what the wheel holds."""

import ast
import graphlib
import importlib
import os
import pathlib
import statistics
import subprocess
import sys
import textwrap
import tomllib
import zipfile
from email.parser import HeaderParser

import pytest

import attgconv_jax

ROOT = pathlib.Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "attgconv_jax").rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))
SOURCES = {path: ast.parse(path.read_text(), str(path)) for path in LIBRARY + EXPERIMENTS}

# From the ground up. A part may import itself and those of lower rungs.
RUNGS = (
    {"checks", "deprecation", "docstrings", "initializers"},
    {"groups"},
    {"bases", "kernels"},
    {"filters", "geometry", "equivariance", "preprocessing"},
    {"antialiasing"},
    {"convolution"},
    {"separable", "attention", "lie"},
    {"moves"},
    {"nn", "probes"},
    {"models"},
    {"export", "interop", "plotting"},
)
WITH_FLAX = {"nn", "models", "export", "interop", "plotting"}


def imports(path):
    """The dotted names that a file imports, anywhere in it."""
    for node in ast.walk(SOURCES[path]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path):
    return path.relative_to(ROOT / "attgconv_jax").with_suffix("").parts[0]


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_imports_run_one_way():
    below = {part: set().union(*RUNGS[:i]) | {part} for i, rung in enumerate(RUNGS) for part in rung}
    wrong = []
    for path in LIBRARY:
        part = part_of(path)
        if part != "__init__":
            own = {name.split(".")[1] for name in imports(path) if name.startswith("attgconv_jax.")} - {"__version__"}
            wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in own - below[part]]
    assert not wrong


def test_no_file_imports_itself_by_way_of_others():
    modules = {module_of(path): path for path in SOURCES}

    def imported(path):
        for name in imports(path):
            parts = name.split(".")
            prefixes = (".".join(parts[:i]) for i in range(len(parts), 0, -1))
            module = next((prefix for prefix in prefixes if prefix in modules), None)
            # The package's own file imports everything, and what it exports is not asked of it inside.
            if module not in (None, "attgconv_jax"):
                yield module

    graph = {name: set(imported(path)) - {name} for name, path in modules.items() if name != "attgconv_jax"}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises a CycleError that names the circle


def test_no_function_has_the_name_of_a_file_beside_it():
    """The file could then not be imported by its name."""
    shadowed = []
    for path in LIBRARY:
        if path.name == "__init__.py" and path.parent.name != "attgconv_jax":
            package = importlib.import_module(module_of(path))
            siblings = [file.stem for file in path.parent.iterdir() if file.stem != "__init__"]
            shadowed += [f"{package.__name__}.{name}" for name in siblings if callable(getattr(package, name, None))]
    assert not shadowed


def test_flax_and_the_experiments_stay_where_they_are():
    for path in LIBRARY:
        packages = {name.split(".")[0] for name in imports(path)}
        assert "experiments" not in packages, path
        assert part_of(path) in WITH_FLAX or not packages & {"flax", "optax", "orbax"}, path


def python(code, **options):
    """Runs code in a Python of its own and returns what it prints."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True, **options).stdout


def test_the_functions_need_no_flax_and_the_networks_no_orbax():
    code = """
        import sys
        import attgconv_jax
        print("flax" in sys.modules)
        attgconv_jax.models.RotMNISTNet
        print("flax" in sys.modules, "orbax.checkpoint" in sys.modules, "torch" in sys.modules)
    """
    assert python(code, cwd=ROOT).split() == ["False", "True", "False", "False"]


@pytest.mark.slow
def test_importing_takes_a_fifth_of_a_second_beyond_jax_and_flax():
    code = "import time, jax, flax; t = time.perf_counter(); import attgconv_jax; print(time.perf_counter() - t)"
    assert statistics.median(float(python(code, cwd=ROOT)) for _ in range(3)) < 0.2


def test_every_public_name_exists_and_no_other():
    for name in attgconv_jax.__all__:
        assert getattr(attgconv_jax, name).__doc__
    for name in ("export", "lie", "nn", "models", "interop", "plotting"):
        assert name in dir(attgconv_jax)
        assert getattr(attgconv_jax, name) is importlib.import_module(f"attgconv_jax.{name}")
    for module in (attgconv_jax.lie, attgconv_jax.nn, attgconv_jax.models, attgconv_jax.interop):
        assert module.__all__ == sorted(module.__all__, key=lambda name: (not name.isupper(), name))
        assert {*module.__all__} <= {*dir(module)}
    with pytest.raises(AttributeError, match="has no attribute 'gconv'"):
        attgconv_jax.gconv  # noqa: B018


def test_files_are_short_and_check_arguments_with_errors():
    assert [str(path) for path in SOURCES if len(path.read_text().splitlines()) > 300] == []
    for path, module in SOURCES.items():
        assert not any(isinstance(node, ast.Assert) for node in ast.walk(module)), path


def public_definitions(node, prefix=""):
    for child in ast.iter_child_nodes(node):
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        if isinstance(child, kinds) and not child.name.startswith("_"):
            yield prefix + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from public_definitions(child, f"{child.name}.")


def test_everything_public_has_a_docstring():
    for path, module in SOURCES.items():
        assert ast.get_docstring(module), path
        bare = [name for name, node in public_definitions(module) if not ast.get_docstring(node)]
        assert not bare, f"{path}: {bare}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_the_library_alone(wheel):
    with zipfile.ZipFile(wheel) as file:
        names = {name for name in file.namelist() if ".dist-info/" not in name}
    assert names == {str(path.relative_to(ROOT)) for path in LIBRARY} | {"attgconv_jax/py.typed"}


@pytest.mark.slow
def test_the_wheel_requires_four_packages(wheel):
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(file.read(name).decode())
    required = [entry for entry in metadata.get_all("Requires-Dist") if "extra ==" not in entry]
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert sorted(required) == sorted(declared)
    assert {entry.split(">")[0] for entry in required} == {"jax", "flax", "numpy", "jaxtyping"}
    assert metadata["Version"] == attgconv_jax.__version__


@pytest.mark.slow
def test_the_wheel_works_outside_the_clone(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "site")
    code = """
        import jax.numpy as jnp
        import attgconv_jax
        from attgconv_jax import cyclic, group_conv
        import attgconv_jax.interop, attgconv_jax.models, attgconv_jax.nn
        print(attgconv_jax.__file__)
        print(group_conv(jnp.ones([2, 9, 9, 1, 3]), jnp.ones([3, 3, 1, 3, 4]), cyclic(4)).shape)
    """
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    file, shape = python(code, cwd=tmp_path, env=environment).splitlines()
    assert file == str(tmp_path / "site/attgconv_jax/__init__.py")
    assert shape == "(2, 7, 7, 4, 4)"
