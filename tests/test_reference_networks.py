"""Networks of the reference that no file of its data holds: logits of its own code, of weights that a seed draws."""

import pathlib

import jax.numpy as jnp
import networks
import numpy as np
import pytest
from helpers import assert_close, assert_refused

from attgconv_jax.interop import REFERENCE_NETWORKS, load_reference
from experiments.bench import reference

# `fixtures/reference_networks.py.txt` wrote them, and draws weights and images as here.
with np.load(pathlib.Path(__file__).parent / "fixtures/reference_networks.npz") as _file:
    LOGITS = dict(_file)


def draw(name, shape, seed=0):
    generator = np.random.default_rng([seed, *name.encode()])
    if name.endswith(("running_var", "weight")) and len(shape) == 1:
        return generator.uniform(0.5, 1.5, shape)
    if len(shape) == 1:
        return generator.uniform(0, 1, shape)
    return generator.standard_normal(shape) * (shape[0] / np.prod(shape)) ** 0.5 / (4 if len(shape) == 5 else 1)


@pytest.mark.parametrize("name", LOGITS)
@pytest.mark.default("f_att_p4_densenet")
def test_the_references_own_code_gives_these_logits(name):
    make, group, attention = REFERENCE_NETWORKS[name]
    network = networks.random_network(group, attention, make=make, param_dtype=np.float32)
    state = {key: draw(key, value.shape) for key, value in networks.by_reference_name(network).items()}
    size = 96 if "densenet" in name else 32
    image = np.random.default_rng(size).standard_normal((2, 3, size, size))
    image = jnp.asarray(image.transpose(0, 2, 3, 1)[:, :, :, None])
    assert_close(networks.logits(load_reference(state, name), image), LOGITS[name], 1e-10)


def test_the_measurement_beside_the_references_own_code_says_which_folder_it_needs(tmp_path):
    assert reference.NETWORKS.keys() <= REFERENCE_NETWORKS.keys()
    with assert_refused("checkout must be a folder of github.com/dwromero/att_gconvs"):
        reference.main(reference.Arguments(checkout=tmp_path))
    with assert_refused("networks must be among", "p4_resnet44"):
        reference.main(reference.Arguments(checkout=tmp_path, networks=("p4_resnet44",)))
