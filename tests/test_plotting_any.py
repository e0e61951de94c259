"""Figures of networks that the registry does not know: their layers are found, recorded and left as they were."""

import functools

import jax
import jax.numpy as jnp
import matplotlib as mpl
import networks
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, random
from matplotlib import pyplot
from test_plotting import differences, pictures

from attgconv_jax import cyclic, dihedral, equivariance_error, filter_bank, plotting, project_max, trivial
from attgconv_jax.lie import rotations
from attgconv_jax.models import LieResNet, ResNet
from attgconv_jax.nn import (
    AttentiveGroupConv,
    GroupConv,
    GroupPool,
    LieAttention,
    LieConv,
    ResponseAttentiveGroupConv,
    SelectiveKernelGroupConv,
    SeparableGroupConv,
    SpatialGroupEnhance,
)
from attgconv_jax.plotting import found

mpl.use("agg")
P4 = cyclic(4)
SAME = dict(padding=1, param_dtype=float)
IMAGES = random(2, 5, 5, 1, 1)


@pytest.fixture(autouse=True)
def close():
    yield
    pyplot.close("all")


def lifting(group=P4, features=2, rngs=None):
    return GroupConv(1, features, 3, group, lifting=True, rngs=rngs or nnx.Rngs(0), **SAME)


@functools.cache
def readme():
    """The network of README, its maps as large as the image."""
    rngs = nnx.Rngs(0)
    attentive = AttentiveGroupConv(2, 3, 3, P4, attention="input", rngs=rngs, **SAME)
    return nnx.Sequential(lifting(rngs=rngs), nnx.relu, attentive, GroupPool("max"))


class Assorted(nnx.Module):
    """A layer called twice, attention on a residual branch, a list of blocks, batch norm, dropout and a head."""

    def __init__(self, rngs):
        self.head = nnx.Linear(2, 3, param_dtype=float, rngs=rngs)
        self.lift = lifting(rngs=rngs)
        self.norm = nnx.BatchNorm(2, param_dtype=float, rngs=rngs)
        self.twice = GroupConv(2, 2, 3, P4, rngs=rngs, **SAME)
        self.attention = SpatialGroupEnhance(2, P4, groups=2, param_dtype=float, rngs=rngs)
        blocks = (
            SeparableGroupConv(2, 2, 3, P4, rngs=rngs, **SAME),
            SelectiveKernelGroupConv(2, 2, 3, P4, rngs=rngs, **SAME),
        )
        self.blocks = nnx.List(blocks)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, images):
        f = self.twice(nnx.relu(self.twice(self.norm(self.lift(images)))))
        f = f + self.attention(f)
        for block in self.blocks:
            f = block(f)
        return self.head(self.dropout(jnp.max(f, axis=(1, 2, 3))))


@functools.cache
def assorted():
    return networks.with_random_arrays(lambda: Assorted(nnx.Rngs(0)))


class Own(nnx.Module):
    """An attention of one's own, on feature maps without a group axis."""

    def __init__(self, rngs):
        self.w = nnx.Param(jnp.asarray([[0.5, 2.0], [1.0, -1.0]]))

    def attention_maps(self, f):
        return nnx.sigmoid(f @ self.w[...])

    def __call__(self, f):
        return self.attention_maps(f) * f


def test_every_figure_of_the_network_of_the_readme_is_one_call(tmp_path):
    network = readme()
    axis = plotting.equivariance_figure(network, IMAGES).axes[0]
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["layers.0", "layers.2", "output"]
    assert all(0 < bar.get_y() + bar.get_height() < 1e-12 for bar in axis.containers[0])
    figure = plotting.attention_figure(network, IMAGES, turned_back=True)
    assert figure.get_suptitle() == "Attention of layer layers.2 under the group's elements"
    assert max(differences(figure)) < 1e-12
    lift, _, attentive, _ = network.layers
    expected = jnp.mean(attentive.attention_maps(nnx.relu(lift(IMAGES))), axis=(-2, -1))
    shown = pictures(figure)
    assert_close([shown[4], shown[16]], expected)
    assert any(axis.get_ylabel() == "suppressed" for axis in figure.axes)
    assert_close(pictures(plotting.layer_filters_figure(network, c_out=1))[1], np.rot90(lift.w[...][:, :, 0, 0, 1]))
    bank = pictures(plotting.filter_bank_figure(network, path="layers.2", c_in=1, c_out=2))
    w = filter_bank(attentive.conv.w[...], P4)[:, :, :, 1, :, 2]
    assert_close(bank, jnp.moveaxis(w, (2, 3), (0, 1)).reshape(16, 3, 3))
    path = tmp_path / "turning.gif"
    assert plotting.turning_animation(network, IMAGES[0], path, frames=2) == path
    assert path.stat().st_size > 1000


def test_layers_are_found_in_the_order_of_calls_and_measured_as_they_stand():
    network = assorted()
    errors = dict(plotting.layer_errors(network, IMAGES))
    names = ["lift", "twice", "twice (call 2)", "attention", "blocks.0", "blocks.1", "output"]
    assert [*errors] == names
    assert all(error < 1e-12 for error in errors.values())


def test_errors_begin_at_the_layer_that_breaks_equivariance():
    class Broken(Assorted):
        def __call__(self, images):
            f = self.lift(images)
            f = self.twice(f * jnp.arange(5.0)[:, None, None, None])
            return dict(map=f[..., 0], by_rotation=jnp.mean(f, axis=(1, 2)), count=jnp.sum(f, axis=(1, 2, 3, 4)))

    network = Broken(nnx.Rngs(0))
    network.eval()
    errors = dict(plotting.layer_errors(network, IMAGES))
    assert [*errors] == ["lift", "twice", "output['by_rotation']", "output['count']", "output['map']"]
    assert errors.pop("lift") < 1e-12
    assert all(error > 0.01 for error in errors.values())

    def second(images):
        return network.twice(network.lift(images) * jnp.arange(5.0)[:, None, None, None])

    np.testing.assert_allclose(errors["twice"], equivariance_error(jax.jit(second), IMAGES, P4), rtol=1e-10)


def test_how_the_group_acts_on_an_output_is_told_by_its_shape():
    class Several(Assorted):
        def __call__(self, images):
            f = self.lift(images)
            pooled = project_max(f)
            return dict(
                maps=f,
                image=pooled,
                plane=pooled[..., 0, :],
                by_rotation=jnp.mean(f, (1, 2)),
                one=jnp.sum(f, (1, 2, 3, 4)),
            )

    errors = dict(plotting.layer_errors(Several(nnx.Rngs(0)), IMAGES))
    names = ["by_rotation", "image", "maps", "one", "plane"]
    assert [*errors] == ["lift", *(f"output['{name}']" for name in names)]
    assert all(error < 1e-12 for error in errors.values())


def test_a_network_on_the_trivial_group_is_compared_under_another():
    network = nnx.Sequential(lifting(trivial()), nnx.relu)
    errors = plotting.layer_errors(network, IMAGES, P4)
    assert [name for name, _ in errors] == ["layers.0", "output"]
    assert all(error > 0.1 for _, error in errors)
    assert all(error == 0 for _, error in plotting.layer_errors(network, IMAGES))


def test_maps_between_group_elements_are_those_of_the_first_layer_on_feature_maps():
    half_turn = cyclic(2)
    options = dict(attention_kernel_size=3, channel=False, **SAME)
    lift = ResponseAttentiveGroupConv(1, 2, 3, half_turn, lifting=True, rngs=nnx.Rngs(0), **options)
    conv = ResponseAttentiveGroupConv(2, 2, 3, half_turn, rngs=nnx.Rngs(1), **options)
    network = nnx.Sequential(lift, conv, project_max)
    shown = np.array(pictures(plotting.response_figure(network, IMAGES[0], channel=1))).reshape(2, 5, 5, 5)
    upright, turned = shown[:, 1:].reshape(2, 2, 2, 5, 5)
    row = half_turn.action[1]
    assert_close(turned, np.rot90(upright[row][:, row], 2, axes=(2, 3)), 1e-12)
    alpha = conv.attention_maps(lift(IMAGES[:1])).spatial[0, ..., 1]
    assert_close(upright, jnp.moveaxis(jnp.mean(alpha, axis=-2), (2, 3), (0, 1)), 1e-12)


class Transformed(nnx.Module):
    """Layers inside transformations of NNX: stacked in a scan, rematerialised, all of it compiled."""

    def __init__(self, rngs):
        self.lift = lifting(rngs=rngs)
        make = nnx.vmap(lambda key: GroupConv(2, 2, 3, P4, rngs=nnx.Rngs(params=key), **SAME))
        self.stack = make(jax.random.split(rngs.params(), 2))
        self.attention = SpatialGroupEnhance(2, P4, groups=2, param_dtype=float, rngs=rngs)

    @nnx.jit
    def __call__(self, images):
        scan = nnx.scan(lambda f, conv: conv(f), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        return nnx.remat(lambda attention, f: attention(f))(self.attention, scan(self.lift(images), self.stack))


def test_values_leave_the_transformations_that_layers_are_called_in():
    network = Transformed(nnx.Rngs(0))
    before = network(IMAGES)
    for _ in range(2):
        errors = plotting.layer_errors(network, IMAGES)
    assert [name for name, _ in errors] == ["lift", "stack[0]", "stack[1]", "attention", "output"]
    assert all(0 < error < 1e-12 for _, error in errors)
    alpha = pictures(plotting.attention_figure(network, IMAGES[:1], elements=0))[1]
    f = network.lift(IMAGES[:1])
    for i in range(2):
        step = nnx.merge(nnx.graphdef(network.stack), jax.tree.map(lambda leaf, i=i: leaf[i], nnx.state(network.stack)))
        f = step(f)
    assert_close(alpha, jnp.mean(network.attention.attention_maps(f), axis=(-2, -1))[0])
    np.testing.assert_array_equal(network(IMAGES), before)


def test_a_network_is_left_as_it_was_and_drawn_as_it_evaluates():
    network = assorted()
    expected = plotting.layer_errors(network, IMAGES)
    training = nnx.clone(network)
    training.train()
    before = networks.leaves(training)
    assert plotting.layer_errors(training, IMAGES) == expected
    assert all(np.array_equal(after, before[name]) for name, after in networks.leaves(training).items())
    assert not training.dropout.deterministic
    assert nnx.graphdef(training.lift) == nnx.graphdef(lifting())
    assert type(training.lift) is GroupConv


def test_attention_of_ones_own_is_drawn():
    class Network(nnx.Module):
        def __init__(self):
            self.lift, self.own = lifting(), Own(nnx.Rngs(0))

        def __call__(self, images):
            return self.own(self.own(project_max(self.lift(images))[..., 0, :]))

    network = Network()
    figure = plotting.attention_figure(network, IMAGES, layer=2, elements=[0, 1], turned_back=True)
    assert figure.get_suptitle().startswith("Attention of layer own (call 2) under")
    f = project_max(network.lift(IMAGES))[..., 0, :]
    expected = np.mean(network.own.attention_maps(network.own(f)), axis=-1)
    shown = pictures(figure)
    assert_close([shown[2], shown[8]], expected)
    assert max(differences(figure)) < 1e-12
    assert [name for name, _ in plotting.layer_errors(network, IMAGES)] == ["lift", "own", "own (call 2)", "output"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "lie_resnet", "lie"])
def test_networks_of_the_registry_and_lie_layers_inside_others_are_drawn(name):
    rngs = nnx.Rngs(0)
    if name == "resnet":
        body = ResNet(18, dihedral(2), "se", features=2, classes=2, in_features=1, param_dtype=float, rngs=rngs)
        attending, size = "body.stages.0.0.attention", 33
    elif name == "lie_resnet":
        small = dict(features=(2, 2), head_features=4, kernel_size=3, network_options=dict(hidden_features=4))
        body = LieResNet(rotations(4), attention="se", param_dtype=float, rngs=rngs, **small)
        attending, size = "body.blocks.0.attention", 28
    else:
        lift = LieConv(1, 2, 3, rotations(4), lifting=True, param_dtype=float, rngs=rngs)
        attention = LieAttention("sge", 2, rotations(4), groups=2, param_dtype=float, rngs=rngs)
        body, attending, size = nnx.Sequential(lift, attention), "body.layers.1", 9

    class Wrapped(nnx.Module):
        def __init__(self):
            self.body = body

        def __call__(self, images):
            return self.body(images)

    images = random(1, size, size, 1, 1)
    errors = plotting.layer_errors(Wrapped(), images)
    assert attending in dict(errors)
    assert all(error < 1e-9 for _, error in errors)
    figure = plotting.attention_figure(Wrapped(), images, elements=[0, 1], turned_back=True)
    assert figure.get_suptitle().startswith(f"Attention of layer {attending} under")
    assert max(differences(figure)) < 1e-9


def test_a_network_measured_again_is_not_compiled_again():
    plotting.layer_errors(readme(), IMAGES)
    before = found._compiled.cache_info()
    plotting.layer_errors(nnx.clone(readme()), IMAGES)
    after = found._compiled.cache_info()
    assert after.misses == before.misses and after.hits == before.hits + 1


def test_an_attribute_without_hash_is_no_obstacle():
    class Holding:
        __hash__ = None

    network = nnx.Sequential(lifting(), nnx.relu)
    network.held = Holding()
    assert all(error < 1e-9 for _, error in plotting.layer_errors(network, IMAGES))
