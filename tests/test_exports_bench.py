"""What the measurement of exported files finds, and that its process cannot import the library."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from networks import means, means_registered

from attgconv_jax.export import comparison
from attgconv_jax.models import NETWORKS, Classifier
from attgconv_jax.preprocessing import Preprocessing
from experiments.bench import exported, exports
from experiments.report.markdown import cells


def blocked(*names):
    """A process that blocks packages and then imports the first."""
    code = f"import runpy\nrunpy.run_path({exported.__file__!r})['block']({names!r})\nimport {names[0]}"
    return subprocess.run([sys.executable, "-I", "-c", code], check=False, capture_output=True, text=True)


def test_what_is_blocked_cannot_be_imported():
    assert blocked("wave").stderr.rstrip().endswith("ModuleNotFoundError: wave is blocked")
    # It has imported this itself, so that no finder is asked.
    assert blocked("wave", "json").stderr.rstrip() == "json can be imported in spite of the block"


def test_a_refused_file_is_compared_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "TOLERANCES", {"float32": 1e-30})
    generator = np.random.default_rng(0)
    batches = {str(count): generator.integers(0, 256, (count, 4, 4, 1)).astype(np.uint8) for count in (1, 7)}
    with means_registered():
        network = means()
        network.eval()
        classifier = Classifier(network, Preprocessing(4, mean=0.5), ("a", "b", "c"))
        wanted = {name: np.asarray(classifier(images)) for name, images in batches.items()}
        found = exports.of_format("stablehlo", classifier, batches, wanted, tmp_path)
    assert "means was not exported" in found["refused"] and found["other_classes"] == 0
    assert found["difference"].keys() == batches.keys() and max(found["difference"].values()) <= 1e-6
    row = {"name": "means", "parameters": 3, "steps": 1, "test_error_percent": 50.0, "stablehlo": found}
    shown = cells(row | {"onnx": exports.NOT_INSTALLED}, exports.COLUMNS)
    assert shown[4].startswith("refused (") and shown[6:] == ["not installed", "not installed"]
    assert cells(row | {"onnx": {"refused": "no"}}, exports.COLUMNS)[6:] == ["does not convert", "-"]


@pytest.mark.parametrize("missing", exports.NEEDED)
def test_formats_whose_packages_are_missing_are_said_to_be(monkeypatch, missing):
    monkeypatch.setattr(exports, "_version", lambda name: exports.NOT_INSTALLED if name == missing else "1")
    assert exports.of_format("onnx", None, {}, {}, pathlib.Path()) == exports.NOT_INSTALLED


def test_every_network_of_the_registry_is_measured():
    assert {config.name for config in exports.CASES.values()} >= NETWORKS.keys() - {"means"}
    for group in ("z2", "p4", "p4m"):
        attentions = {config.attention for config in exports.CASES.values() if config.group == group}
        assert attentions >= {"none", *exports.OPERATORS}
