"""The notebooks hold the outputs of a run, and run from beginning to end at settings a test has time for."""

import ast
import pathlib
import re
import sys

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"

# What replaces the settings of a notebook's first code cell.
SHORT = {
    "1-groups-and-equivariance": dict(digits=1, channels=2, features=1),
    "2-attention-on-the-group": dict(digits=1, channels=4),
    "3-train-on-rotated-digits": dict(epochs=2, training_images=128, features=1, frames=4),
    "4-attention-for-your-network": dict(epochs=2, training_images=100, channels=8, attention_name="se"),
    "5-from-quarter-turns-to-similarities": dict(training_images=8, batch_size=8, steps=4, features=(2, 4)),
    "6-your-own-pictures": dict(pictures=200, epochs=3, features=1),
}
every_notebook = pytest.mark.parametrize("name", SHORT)


def read(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_these_notebooks_and_no_other():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == SHORT.keys()


@every_notebook
def test_a_notebook_is_kept_with_the_outputs_of_one_run(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    # What a cell prints at least, and which draw.
    assert [cell.id for cell in cells if "print(" in top_level(cell) and not prints(cell)] == []
    assert [cell.id for cell in cells if draws(cell) and not has_picture(cell)] == []
    assert any(has_picture(cell) for cell in cells)


def top_level(cell):
    """The source of a cell without the functions that it defines."""
    body = ast.parse(cell.source).body
    return "\n".join(ast.unparse(node) for node in body if not isinstance(node, ast.FunctionDef | ast.ClassDef))


def prints(cell):
    return any(output.get("name") == "stdout" for output in cell.outputs)


def draws(cell):
    return any(name in top_level(cell) for name in ("draw(", "pyplot.subplots(", "_figure(", "_animation("))


def has_picture(cell):
    return any({"image/png", "image/gif"} & output.get("data", {}).keys() for output in cell.outputs)


def test_the_notebooks_are_small_and_name_no_place_of_the_machine_that_ran_them():
    paths = [*NOTEBOOKS.glob("*.ipynb")]
    assert sum(path.stat().st_size for path in paths) <= 4 * 2**20
    for path in paths:
        notebook = nbformat.read(path, as_version=4)
        kept = [notebook.metadata, *(cell.metadata for cell in notebook.cells)]
        for output in (output for cell in code_cells(notebook) for output in cell.outputs):
            data = {kind: value for kind, value in output.get("data", {}).items() if not kind.startswith("image/")}
            kept += [output.get("text", ""), output.get("metadata", {}), data]
        assert re.findall(r"(?<![\w.:/])(?:/\w+){2,}|[A-Z]:\\\\", str(kept)) == []


@every_notebook
def test_a_notebook_needs_no_clone(name):
    """Only the library and packages that its extras bring."""
    imported = set()
    for node in (node for cell in code_cells(read(name)) for node in ast.walk(ast.parse(cell.source))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    known = {"attgconv_jax", "flax", "IPython", "jax", "matplotlib", "numpy", "optax", "PIL", "scipy", "sklearn"}
    assert imported - sys.stdlib_module_names <= known


@every_notebook
def test_the_first_code_cell_holds_the_settings_and_nothing_else(name):
    first, *others = code_cells(read(name))
    assert first.metadata.tags == ["parameters"]
    assert not any("parameters" in cell.metadata.get("tags", []) for cell in others)
    statements = ast.parse(first.source).body
    assert all(isinstance(statement, ast.Assign) for statement in statements)
    values = {statement.targets[0].id: ast.literal_eval(statement.value) for statement in statements}
    assert SHORT[name].keys() <= values.keys()
    assert all(type(values[setting]) is type(short) for setting, short in SHORT[name].items())


@pytest.mark.slow
@every_notebook
def test_a_notebook_runs_without_errors_and_warnings(name, monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    # Compiling takes most of the time, and nothing here runs for long.
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    # No settings of the user's own.
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("MPLBACKEND", raising=False)
    notebook = read(name)
    place = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code") + 1
    settings = "\n".join(f"{setting} = {value!r}" for setting, value in SHORT[name].items())
    injected = nbformat.v4.new_code_cell(settings, metadata={"tags": ["injected-parameters"]})
    notebook.cells.insert(place, injected)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert any(output.get("name") == "stdout" for output in outputs)
