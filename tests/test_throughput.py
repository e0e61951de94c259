"""Images a second and the share of a device's arithmetic that a run reports."""

import jax
import numpy as np
import pytest
from flax import nnx

from experiments.run import throughput
from experiments.run.throughput import Throughput, forward_flops, peak


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v5p", 459e12),
        ("NVIDIA H1000", None),
        ("NVIDIA H200 NVL", 836e12),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("TPU v4 lite", None),
        ("cpu", None),
    ],
)
def test_peaks_are_of_the_longest_name_that_a_device_begins_with(kind, expected):
    assert peak(kind) == expected


def network():
    return nnx.Sequential(nnx.Conv(3, 8, (3, 3), padding="VALID", use_bias=False, rngs=nnx.Rngs(0)))


def test_operations_of_a_convolution():
    image = jax.ShapeDtypeStruct((2, 10, 12, 3), np.float32)
    assert forward_flops(nnx.eval_shape(network), image) == 2 * 2 * 8 * 10 * 9 * 3 * 8


def test_figures_are_of_what_was_added_since_they_were_taken(monkeypatch):
    assert Throughput(network(), (10, 12, 3))._share_of_one is None
    monkeypatch.setitem(throughput.PEAKS, jax.devices()[0].device_kind, 1e9)
    speed = Throughput(network(), (10, 12, 3))
    speed.add(100, 1.0)
    speed.add(300, 1.0)
    flops = 2 * 8 * 10 * 9 * 3 * 8
    assert speed.take() == {"images_per_second": 200, "model_flop_utilisation_percent": 100 * 3 * flops * 200 / 1e9}
    speed = Throughput(network(), (10, 12, 3), devices=4)
    speed.add(400, 2.0)
    assert speed.take()["model_flop_utilisation_percent"] == 100 * 3 * flops * 200 / 4e9
    speed.add(10, 1.0)
    assert speed.take()["images_per_second"] == 10
