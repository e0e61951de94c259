"""The command that exports a run's network."""

import re
import sys
import zipfile

import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from networks import random_network

from attgconv_jax import cyclic
from attgconv_jax.export import comparison
from attgconv_jax.models import save_network
from attgconv_jax.preprocessing import Preprocessing
from experiments import export
from experiments.data import rotated_digits
from experiments.run.configuration import Config
from experiments.run.workdir import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run's folder with a network."""
    folder = tmp_path_factory.mktemp("run")
    network = random_network(cyclic(4), features=2, classes=12, param_dtype=jnp.float32)
    preprocessing = Preprocessing(28, mean=0.13, deviation=0.31)
    save_network(
        folder / "networks/seed-0-best", network, preprocessing=preprocessing, class_names=list("abcdefghijkl")
    )
    return folder


def test_command_says_what_it_wrote_and_how_it_is_loaded(run, tmp_path, capsys):
    file = tmp_path / "net.zip"
    export.cli([str(run), str(file), "--platforms", "cpu", "tpu"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{file}: rot_mnist as stablehlo, for cpu, tpu, {file.stat().st_size / 1e6:.2f} MB"
    assert lines[1] == "takes uint8 [batch, 28, 28, 1]; gives probabilities"
    assert lines[2] == "classes: a, b, c, d, e, f, g, h, i, j and 2 more"
    assert lines[3].startswith("pictures must have 28 x 28 pixels: bring others to that size, or give --shape")
    assert re.fullmatch(r"largest difference to the network: \d\.\de-\d\d, of 1.0e-05 allowed", lines[4])
    assert lines[5].startswith("load: jax.export.deserialize(") and str(file) in lines[5]
    images = np.zeros([2, 28, 28, 1], np.uint8)
    assert eval(lines[5].removeprefix("load: "), {"jax": jax, "zipfile": zipfile, "images": images}).shape == (2, 12)


def test_tolerance_decides_whether_a_file_is_written(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(comparison, "TOLERANCES", {"float32": 1e-30})
    assert "(--tolerance " in error_of(capsys, run, tmp_path / "net.zip", "--platforms", "cpu")
    assert "tolerance must be a positive number" in error_of(capsys, run, tmp_path / "net.zip", "--tolerance", "0")
    export.cli([str(run), str(tmp_path / "net.zip"), "--platforms", "cpu", "--tolerance", "0.001"])
    assert ", of 1.0e-03 allowed" in capsys.readouterr().out


def test_logits_of_standardised_images(run, tmp_path, capsys):
    file = tmp_path / "net.zip"
    export.cli([str(run), str(file), "--platforms", "cpu", "--logits"])
    assert "takes float32 [batch, 28, 28, 1, 1]; gives logits" in capsys.readouterr().out


def error_of(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        export.cli([*map(str, words)])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_errors_are_one_line(run, tmp_path, capsys, monkeypatch):
    assert "path must be the folder of a run" in error_of(capsys, __file__, tmp_path / "net.zip")
    assert "exists: choose another path" in error_of(capsys, run, run)
    assert "there is no directory" in error_of(capsys, run, tmp_path / "missing" / "net.zip")
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    line = error_of(capsys, run, tmp_path / "net.onnx", "--format", "onnx")
    assert line == 'error: format "onnx" needs jax2onnx and onnxruntime: pip install jax2onnx onnxruntime'


def test_a_run_is_compared_on_its_validation_images(tmp_path, capsys):
    run, config = Run(tmp_path / "run"), Config()
    with run.locked():
        run.begin(config, rotated_digits(0))
    data = rotated_digits(0).standardised()
    pixels = export._validation_images(run.workdir, data.preprocessing, False)
    assert pixels.shape == (export.IMAGES, 28, 28, 1) and pixels.dtype == data.preprocessing.dtype
    images = export._validation_images(run.workdir, data.preprocessing, True)
    np.testing.assert_allclose(
        images, data.validation.images[: export.IMAGES], atol=1 / 255 / data.preprocessing.deviation
    )
    assert export._validation_images(tmp_path, data.preprocessing, False) is None
    (run.workdir / "run.json").write_text("{}")
    assert export._validation_images(run.workdir, data.preprocessing, False) is None
    assert "note: compared on noise alone, since the run's images cannot be read: " in capsys.readouterr().out
