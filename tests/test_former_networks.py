"""Networks that version 0.1.0 saved load, and give the logits that they gave; see `fixtures/networks-0.1.0`."""

import json
import pathlib
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, assert_refused
from networks import leaves, random_network

from attgconv_jax import Sampling, cyclic
from attgconv_jax.models import NETWORKS, load_classifier, load_network, save_network
from attgconv_jax.preprocessing import Preprocessing

FOLDER = pathlib.Path(__file__).parent / "fixtures/networks-0.1.0"
with np.load(FOLDER / "logits.npz") as _file:
    LOGITS = dict(_file)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    with tarfile.open(FOLDER / "networks.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


def loaded(folder):
    """The network, whose folder does not say how images are standardised."""
    with pytest.warns(UserWarning, match=f"^{folder} was saved by an earlier version, without preprocessing and class"):
        return load_network(folder)


def logits(network, image):
    graphdef, state = nnx.split(network)
    return jax.jit(lambda state, image: nnx.merge(graphdef, state)(image))(state, image)


# One of each network, and of each way of storing attention that has changed since.
FEW = [
    "all_cnn-p4m",
    "lie_all_cnn",
    "lie_resnet-fourier",
    "lie_resnet-input",
    "resnet-z2-sge",
    "rot_mnist-co",
    "rot_mnist-converted",
    "rot_mnist-response_channel",
    "rot_mnist-separable",
    "rot_mnist-sk",
]
OTHERS = [name for name in LOGITS if not name.startswith("images/") and name not in FEW]


def check_logits(saved, name):
    network = loaded(saved / name)
    kind = name.split("-")[0]
    assert type(network) is NETWORKS[kind].network
    image = jnp.asarray(LOGITS[f"images/{kind}"], jnp.float64) / 64
    # The same bits on the processor that wrote them; others may fuse operations differently.
    assert_close(logits(network, image), LOGITS[name], 1e-13)


@pytest.mark.parametrize("name", FEW)
def test_a_network_of_version_0_1_0_gives_its_logits(saved, name):
    check_logits(saved, name)


def test_networks_of_a_development_version_with_other_functions_are_refused(tmp_path):
    """Whose coefficients would make other filters; where pixels are permuted there are none."""
    for group, is_refused in ((cyclic(8), True), (cyclic(4), False)):
        path = tmp_path / str(group)
        save_network(path, random_network(group, features=2))
        description = json.loads((path / "network.json").read_text())
        del description["bases"]
        (path / "network.json").write_text(json.dumps(description))
        if is_refused:
            with assert_refused("a development version whose functions for cyclic(8)", "train the network again"):
                load_network(path)
        else:
            load_network(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_other_network_of_version_0_1_0_gives_its_logits(saved, name):
    check_logits(saved, name)


def test_settings_that_version_0_1_0_named_otherwise(saved):
    kinds = {"none": "nonseparable", "gseparable": "gseparable", "separable_input": "separable"}
    for name, kind in kinds.items():
        settings = loaded(saved / f"rot_mnist-{name}").settings
        assert settings["kind"] == kind and "separable" not in settings
        assert settings["sampling"]["kind"] == "bilinear"


def test_interpolation_of_attention_alone_stays_its_own(saved):
    file = saved / "rot_mnist-c8-input/network.json"
    description = json.loads(file.read_text())
    description["settings"]["attention_options"] = {"interpolation": "cubic", "disc_mask": True}
    file.write_text(json.dumps(description))
    network = loaded(file.parent)
    layer = network.convolutions[1]
    assert dict(layer.attention._options)["sampling"] == Sampling("cubic", disc_mask=True)
    assert layer.conv.sampling == Sampling("bilinear")


def test_a_former_network_classifies_with_the_preprocessing_that_is_given(saved):
    folder, preprocessing = saved / "rot_mnist-none", Preprocessing(28, mean=0.1)
    classifier = load_classifier(folder, preprocessing=preprocessing, class_names=list("0123456789"))
    assert classifier.preprocessing == preprocessing


def test_networks_from_before_bases_interpolate_as_they_did(tmp_path):
    network = random_network(cyclic(8), "input", features=2, sampling=Sampling("bilinear"), param_dtype=jnp.float32)
    save_network(tmp_path / "network", network)
    file = tmp_path / "network/network.json"
    description = json.loads(file.read_text())
    description["settings"]["sampling"] = {"kind": "bilinear", "disc_mask": False}
    file.write_text(json.dumps(description))
    back = load_network(tmp_path / "network")
    assert nnx.graphdef(back) == nnx.graphdef(network)
    jax.tree.map(np.testing.assert_array_equal, leaves(back), leaves(network))
