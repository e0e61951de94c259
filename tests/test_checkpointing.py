"""Gradient checkpointing: what the gradient keeps of every network, and that nothing else changes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_refused, random
from networks import leaves, means_registered, random_network

from attgconv_jax import cyclic, dihedral
from attgconv_jax.lie import rotations
from attgconv_jax.models import (
    AllCNN,
    CIFARResNet,
    DenseNet,
    LieAllCNN,
    LieResNet,
    ResNet,
    RotMNISTNet,
    WideResNet,
)
from experiments.bench.kept import kept
from experiments.data import Dataset, Split
from experiments.run.configuration import Config, OptimizerConfig
from experiments.run.loop import make_trainer
from experiments.run.model_configuration import model

P4 = cyclic(4)
LIE = dict(network_options=dict(hidden_features=4), random_grids=True)
NETWORKS = {
    "rot_mnist": (functools.partial(RotMNISTNet, P4, "input", features=4, classes=3), 28),
    "all_cnn": (functools.partial(AllCNN, P4, "co", features=2, classes=3), 32),
    "cifar_resnet": (functools.partial(CIFARResNet, P4, "sk", depth=8, features=2, classes=3), 32),
    "wide_resnet": (functools.partial(WideResNet, 10, 2, P4, "se", features=2, classes=3, dropout_rate=0.3), 32),
    "densenet": (functools.partial(DenseNet, dihedral(4), features=2, classes=3), 96),
    "resnet": (functools.partial(ResNet, 18, P4, "bam", features=4, classes=3), 65),
    "lie_resnet": (functools.partial(LieResNet, rotations(4), features=(2, 2), classes=3, head_features=4, **LIE), 28),
    "lie_all_cnn": (functools.partial(LieAllCNN, rotations(4), features=2, classes=3, **LIE), 32),
}
CASES = pytest.mark.parametrize("name", NETWORKS)


def images_of(name, batch=4):
    make, size = NETWORKS[name]
    network = random_network(None, make=lambda group, attention, **options: make(in_features=2, **options))
    network.train()
    return network, random(batch, size, size, 1, 2)


def kept_shapes(network, images, on):
    shapes = kept(network, jax.ShapeDtypeStruct(images.shape, images.dtype), gradient_checkpointing=on)
    return [leaf.shape for leaf in shapes]


@CASES
@pytest.mark.default("rot_mnist", "cifar_resnet")
def test_the_gradient_keeps_what_enters_the_blocks_and_little_else(name):
    network, images = images_of(name)
    everything, few = (sum(map(np.prod, kept_shapes(network, images, on))) for on in (False, True))
    assert few < 0.6 * everything
    # What enters a block is kept once, whatever is inside.
    assert len(kept_shapes(network, images, True)) < 0.6 * len(kept_shapes(network, images, False))


def test_a_row_of_layers_keeps_what_enters_each_of_them():
    network, images = images_of("rot_mnist")
    large = [shape for shape in kept_shapes(network, images, True) if len(shape) > 1]
    network.eval()
    maps = [f.shape for f in jax.eval_shape(network.feature_maps, images)]
    assert sorted(large) == sorted(maps[:-1])


@CASES
@pytest.mark.default("rot_mnist")
def test_loss_gradients_and_statistics_are_what_they_were(name):
    network, images = images_of(name)
    graph, params, rest = nnx.split(network, nnx.Param, ...)

    @functools.partial(jax.jit, static_argnums=1)
    def outcome(params, on):
        def loss(params):
            network = nnx.merge(graph, params, rest, copy=True)
            network.gradient_checkpointing = on
            logits = network(images)
            return jnp.sum(jnp.sin(logits)), network

        (value, network), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        return value, gradients, nnx.state(network, nnx.Not(nnx.Param))

    expected, actual = (jax.tree.leaves(outcome(params, on)) for on in (False, True))
    for a, b in zip(actual, expected, strict=True):
        if jnp.issubdtype(a.dtype, jnp.floating):
            np.testing.assert_allclose(a, b, atol=1e-12 * max(1e-30, np.max(np.abs(b))))
        else:  # keys and counts of dropout and of random grids
            assert bool(jnp.all(a == b))


def test_feature_and_attention_maps_are_what_they_were():
    network, images = images_of("wide_resnet", batch=1)
    network.eval()
    plain, checkpointed = network, nnx.clone(network)
    checkpointed.gradient_checkpointing = True
    for method in ("feature_maps", "attention_maps"):
        shapes = [jax.eval_shape(getattr(each, method), images) for each in (plain, checkpointed)]
        assert shapes[0] == shapes[1]


def test_it_is_neither_saved_nor_part_of_a_networks_settings():
    network, _ = images_of("rot_mnist")
    before, names = network.settings, leaves(network).keys()
    network.gradient_checkpointing = True
    assert network.settings == before and leaves(network).keys() == names


def few_images(size):
    generator = np.random.default_rng(0)
    splits = [
        Split(generator.normal(size=(8, size, size, 1, 1)).astype("f"), np.arange(8, dtype=np.int32) % 3)
        for _ in range(3)
    ]
    return Dataset("few", 3, *splits)


def test_a_network_without_blocks_is_refused():
    optimizer = OptimizerConfig(batch_size=4, gradient_checkpointing=True)
    with means_registered():
        config = Config(model=model("means", "p4"), optimizer=optimizer)
        with assert_refused("optimizer.gradient_checkpointing has no effect on this network", "leave it out"):
            make_trainer(config, few_images(4))


def test_a_trainers_network_computes_again_and_is_evaluated_as_it_was():
    config = Config(
        model=model("rot_mnist", "z2"), optimizer=OptimizerConfig(batch_size=4, gradient_checkpointing=True)
    )
    trainer = make_trainer(config, few_images(28))
    assert nnx.merge(trainer.graph, *(trainer.init((0,)))[:2]).gradient_checkpointing
    assert not nnx.merge(trainer.evaluation_graph, *(trainer.init((0,)))[:2]).gradient_checkpointing
