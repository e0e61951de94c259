"""Files of ONNX: their numbers in onnxruntime, and what is said where packages are missing or nothing converts."""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_refused
from networks import random_network, random_network_of

from attgconv_jax import cyclic, dihedral, trivial
from attgconv_jax.export import export_network
from attgconv_jax.export.onnx import REWRITES
from attgconv_jax.lie import rotations
from attgconv_jax.preprocessing import Preprocessing

LIE = dict(features=(2, 4), kernel_size=3, head_features=4, network_options={"hidden_features": 8})


def exported_and_network(path, network, **options):
    """What the file gives for a batch of images, its metadata, and what the network gives."""
    pytest.importorskip("jax2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    preprocessing = Preprocessing(**options, mean=0.13, deviation=0.31)
    about = export_network(path, network, preprocessing=preprocessing, format="onnx")
    session = onnxruntime.InferenceSession(str(path))
    assert json.loads(session.get_modelmeta().custom_metadata_map["attgconv_jax"]) == json.loads(json.dumps(about))
    wanted = jax.jit(lambda images: jax.nn.softmax(network(preprocessing(images))))
    shape = preprocessing.size, preprocessing.size, preprocessing.features
    for batch in (1, 7, 64):
        images = np.random.default_rng(batch).integers(0, 256, (batch, *shape)).astype(np.uint8)
        (probabilities,) = session.run(["probabilities"], {"images": images})
        assert probabilities.shape == (batch, network.settings["classes"])
        assert np.max(np.abs(probabilities - wanted(images))) <= 1e-5


def test_p4_network_converts_and_takes_any_batch(tmp_path):
    network = random_network(cyclic(4), features=2, param_dtype=jnp.float32)
    exported_and_network(tmp_path / "p4.onnx", network, size=28)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, group, attention, settings, size",
    [
        ("rot_mnist", dihedral(4), "eca", {"features": 2}, 28),
        ("all_cnn", cyclic(4), "input", {"features": 2}, 32),
        # Grouped convolutions, and their paddings.
        ("resnet", cyclic(4), "sk", {"features": 4, "depth": 50}, 33),
        ("lie_resnet", rotations(8), "input", {"coordinates": "paper", **LIE}, 28),
    ],
)
def test_networks_convert(tmp_path, name, group, attention, settings, size):
    network = random_network_of(name, group, attention, param_dtype=jnp.float32, **settings)
    exported_and_network(tmp_path / "network.onnx", network, size=size, features=network.settings["in_features"])


@pytest.mark.parametrize(
    "config", [[(1, 2, 0), (0, 0, 0)], [(-1, 2, 0), (0, -2, 0)], [(0, 0, 0), (0, 0, 0)], [(1, 0, 2)] * 2]
)
def test_padding_by_concatenation_is_that_of_lax(config):
    x = jnp.arange(20.0).reshape(4, 5)
    wanted = jax.lax.pad(x, jnp.float64(-1), config)
    np.testing.assert_array_equal(REWRITES["pad"](x, jnp.float64(-1), padding_config=config), wanted)


def test_reshape_in_another_order_is_that_of_lax():
    x = jnp.arange(24.0).reshape(2, 3, 4)
    rewritten = REWRITES["reshape"](x, new_sizes=(6, 4), dimensions=(2, 0, 1), sharding=None)
    np.testing.assert_array_equal(rewritten, jax.lax.reshape(x, (6, 4), (2, 0, 1)))
    assert "dimensions=(" not in str(
        jax.make_jaxpr(lambda x: REWRITES["reshape"](x, new_sizes=(24,), dimensions=(2, 0, 1)))(x)
    )


@pytest.mark.parametrize("missing", ["jax2onnx", "onnxruntime"])
def test_missing_packages_are_named_with_the_extra_that_brings_them(tmp_path, monkeypatch, missing):
    for name in ("jax2onnx", "onnxruntime"):
        monkeypatch.setitem(sys.modules, name, None if name == missing else sys)
    with pytest.raises(ImportError, match=r'format "onnx" needs jax2onnx and onnxruntime: pip install'):
        export_network(tmp_path / "file.onnx", lambda images: images[:, 0, 0, 0], shape=[3, 3, 2], format="onnx")
    assert not list(tmp_path.iterdir())


def test_what_does_not_convert_is_refused_by_name(tmp_path, monkeypatch):
    class Converter:
        @staticmethod
        def to_onnx(*_, **__):
            raise NotImplementedError("no plugin for\n primitive 'frobnicate'")

    monkeypatch.setitem(sys.modules, "jax2onnx", Converter)
    monkeypatch.setitem(sys.modules, "onnxruntime", sys)
    network = random_network(trivial(), features=2, param_dtype=jnp.float32)
    parts = "rot_mnist does not convert to ONNX", "no plugin for primitive 'frobnicate'", 'format "stablehlo" takes it'
    with assert_refused(*parts):
        export_network(tmp_path / "file.onnx", network, format="onnx")
    assert not list(tmp_path.iterdir())
