"""Layers and networks on several devices: one device's numbers, and nothing exchanged but what must be."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.testing import assert_allclose

from attgconv_jax import computing, cyclic, group_conv
from attgconv_jax.kernels import dropout
from attgconv_jax.models import RotMNISTNet
from attgconv_jax.nn import Dropout, set_axis_name
from attgconv_jax.nn.norm import batch_norms
from experiments.bench import devices, eager

TESTS = pathlib.Path(__file__).parent
FEW = ["conv", "norm and dropout", "gseparable", "cbam", "sge", "non_local"]
# What is added up beside one number for each parameter and the loss: statistics of norms, or banks, kernels and weights
# of statistics that are made of few parameters.
MORE = {
    "norm and dropout": 12,
    "selective kernel": 18,
    "bam": 10,
    "coordinate": 122,
    "eca": 12,
    "srm": 104,
}
# Over an automatic mesh nothing says how images are spread: gradients are added up of banks, and these gather images.
GATHERING = {"response", "response, positions", "lie dseparable", "lie attention, scales"}


def outcomes(names):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    run = subprocess.run(
        [sys.executable, TESTS / "several_devices.py", *names],
        env=environment, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert [each["name"] for each in found] == names
    return found


def check(found):
    for each in found:
        name = each["name"]
        assert each.get("elements", 0) < 1e-12, name
        for way in devices.WAYS:
            # The norms of BAM divide by deviations of few numbers.
            assert each[way]["error"] < (1e-11 if name == "bam" else 1e-12), (name, way)
            added, *others = each[way]["exchanged"].values()
            if way == "automatic":
                assert not any(others) or name in GATHERING, name
            else:
                assert not any(others), (name, way)
                if not name.startswith("lie "):
                    assert added == each["parameters"] + 1 + MORE.get(name, 0), (name, way)


def test_a_few_layers_have_one_devices_numbers_and_add_up_what_they_must():
    check(outcomes(FEW))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(3))
def test_layers_have_one_devices_numbers_and_add_up_what_they_must(part):
    names = [*eager.LAYERS, "lie attention, scales"]
    check(outcomes([name for name in names if name not in FEW][part::3]))


@pytest.mark.slow
# Rounding grows as a network learns: in LieAllCNN, whose kernels are networks, from 1e-14 to 1e-8 in three steps.
@pytest.mark.parametrize(("name", "steps"), [("rot_mnist sk", 3), ("resnet", 3), ("lie_all_cnn", 1), ("lie_resnet", 1)])
def test_networks_train_as_on_one_device(name, steps, tmp_path):
    out = tmp_path / "devices.json"
    command = [
        sys.executable,
        "-m",
        "experiments.bench.devices",
        "--names",
        name,
        "--steps",
        str(steps),
        "--out",
        str(out),
    ]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    run = subprocess.run(command, env=environment, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    row = json.loads(out.read_text())["networks"][name]
    for way in devices.WAYS:
        assert row[way]["error"] < 1e-10
    assert (row["explicit"]["others"], row["shard_map"]["others"]) == (0, 0)
    least = row["parameters"]
    assert least < row["shard_map"]["all-reduce"] <= row["explicit"]["all-reduce"] <= row["automatic"]["all-reduce"]
    if not name.startswith("lie_"):
        assert row["explicit"]["all-reduce"] < 1.1 * least
        assert row["automatic"]["all-reduce"] > 3 * least


def test_group_elements_are_shared_along_an_axis_that_is_there():
    f, w, p4 = jnp.ones([2, 5, 5, 4, 2]), jnp.ones([3, 3, 4, 2, 3]), cyclic(4)
    with computing(group_axis="group"):
        with pytest.raises(
            ValueError, match=r"explicit mesh with this axis around it, as of .* the mesh here has no axes"
        ):
            group_conv(f, w, p4)
        automatic = jax.make_mesh((1,), ("group",), axis_types=(jax.sharding.AxisType.Auto,))
        with jax.set_mesh(automatic), pytest.raises(ValueError, match=r"the mesh here has \{'group': 'Auto'\}"):
            jax.jit(group_conv, static_argnums=2)(f, w, p4)
        with jax.set_mesh(jax.make_mesh((1,), ("group",))):
            shared = jax.jit(group_conv, static_argnums=2)(f, w, p4)
        mesh = jax.make_mesh((1,), ("data",))
        spread = jax.device_put(f, jax.NamedSharding(mesh, jax.P("data")))
        with (
            jax.set_mesh(mesh),
            computing(group_axis="data"),
            pytest.raises(ValueError, match="images are spread: take an"),
        ):
            group_conv(spread, w, p4)
    assert shared.shape == (2, 3, 3, 4, 3)
    assert_allclose(np.asarray(shared), np.asarray(group_conv(f, w, p4)), rtol=1e-6)


def test_what_a_program_exchanges_is_counted():
    program = """
      %a = (f64[3,4]{1,0}, f64[]) all-reduce(%x, %y), channel_id=1
      %b = f32[2,5]{1,0} all-gather(%z), channel_id=2
      %c = f32[7]{0} all-reduce-start(%z)
      %d = f32[7]{0} all-reduce-done(%c)
      %e = f32[9]{0} add(%z, %z)
    """
    found = devices.exchanged(program)
    assert found == dict.fromkeys(devices.COLLECTIVES, 0) | {"all-reduce": 20, "all-gather": 10}


def test_an_axis_is_named_in_all_norms_and_dropouts_and_taken_back():
    network = RotMNISTNet(cyclic(4), "bam", features=4, rngs=nnx.Rngs(0))
    before = nnx.split(network)[0]
    set_axis_name(network, "data")
    dropouts = [part for _, part in nnx.iter_graph(network) if isinstance(part, Dropout)]
    assert dropouts
    assert {part.axis_name for part in [*dropouts, *batch_norms(network)]} == {"data"}
    set_axis_name(network, None)
    assert nnx.split(network)[0] == before


def test_no_name_of_an_axis_is_refused():
    with pytest.raises(ValueError, match=r"axis_name must be a name of an axis of the mesh, .* or None, got \(\)"):
        set_axis_name(Dropout(0.5, rngs=nnx.Rngs(0)), ())


def test_a_mask_over_more_devices_may_be_too_large():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    masked = jax.shard_map(
        lambda f: dropout(f, jax.random.key(0), 0.5, 2**32 - 4, "data"), mesh=mesh, in_specs=jax.P(), out_specs=jax.P()
    )
    with pytest.raises(ValueError, match=r"fewer than 2\^32 elements a key, got 4294967292 before shape \(8,\)"):
        masked(jnp.ones(8))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(devices=3), "--batch-size must be a multiple of the 3 devices, got 8"),
        (dict(names=("vgg",)), "names must be among .*, got vgg"),
        (dict(devices=0), "devices must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_of_the_measurement_are_explained(wrong, message, monkeypatch, tmp_path):
    monkeypatch.setattr(devices.jax, "device_count", lambda: 8)
    monkeypatch.setattr(devices.jax.config, "update", lambda *_: None)
    with pytest.raises(ValueError, match=message):
        devices.main(devices.Arguments(out=tmp_path / "devices.json", **wrong))
