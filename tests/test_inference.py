"""Inference beside PyTorch: what is compared are the same functions. Skipped where PyTorch is not installed."""

import json
import sys

import jax
import numpy as np
import pytest
from helpers import assert_refused
from networks import random_network

from attgconv_jax import cyclic, dihedral
from experiments.bench import inference, pytorch


@pytest.mark.parametrize("attention", [None, "input", "response"])
@pytest.mark.parametrize("group", [cyclic(4), dihedral(4)], ids=["p4", "p4m"])
@pytest.mark.slow
def test_networks_in_pytorch_are_those_of_this_library(group, attention):
    torch = pytest.importorskip("torch")
    network = random_network(group, attention, features=3, dropout_rate=0.0, param_dtype=np.float32)
    images = np.random.default_rng(1).standard_normal((3, 28, 28, 1, 1), np.float32)
    theirs = pytorch.torch_network(network)(torch.from_numpy(images))
    assert pytorch.largest_difference(jax.jit(network)(images), theirs) < 1e-4


@pytest.mark.slow
def test_inference_is_measured_beside_pytorch(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.setattr(inference, "NETWORKS", {"p4": inference.NETWORKS["p4"]})
    inference.main(inference.Arguments(batch_sizes=(2,), repeats=1, out=tmp_path / "inference.json"))
    (row,) = json.loads((tmp_path / "inference.json").read_text())["rows"]
    assert min(row["jitted_ms"], row["folded_ms"], row["pytorch_ms"]) > 0
    assert row["largest_difference"] < 1e-4
    assert "| p4 | 2 |" in capsys.readouterr().out


def test_other_logits_are_an_error(monkeypatch):
    pytest.importorskip("torch")
    network = random_network(cyclic(4), features=2, dropout_rate=0.0, param_dtype=np.float32)
    other = pytorch.torch_network(network)
    monkeypatch.setattr(inference, "torch_network", lambda _: lambda images: 1.001 * other(images))
    with assert_refused("logits must agree with PyTorch's to 0.0001, got 1.0e-03"):
        inference.measure(network, 2, 1)


def test_a_missing_pytorch_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with assert_refused("PyTorch is not installed; the first lines of experiments/bench/inference.py say how"):
        inference.main(inference.Arguments())
