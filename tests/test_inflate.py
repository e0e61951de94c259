"""Group networks that start from plain ones: what equals what."""

import jax
import jax.numpy as jnp
import networks
import numpy as np
import pytest
from helpers import assert_close, assert_refused, random

from attgconv_jax import cyclic, dihedral, trivial
from attgconv_jax.interop import inflate
from attgconv_jax.lie import rotations
from attgconv_jax.models import AllCNN, LieResNet, ResNet, RotMNISTNet


def moved(image, group):
    """The image under every element, `[g, batch, x, y, 1, c]`: first turned, then mirrored."""
    turned = [jnp.rot90(image, r * 4 // group.rotations, axes=(1, 2)) for r in range(group.rotations)]
    return jnp.stack(turned + [jnp.flip(f, axis=1) for f in turned] * group.reflections)


CASES = {
    "rot_mnist p4": (RotMNISTNet, cyclic(4), None, dict(features=(2,) * 6), (28, 28, 1), jnp.max),
    "rot_mnist p4m": (RotMNISTNet, dihedral(4), None, dict(features=(2,) * 6), (28, 28, 1), jnp.max),
    "all_cnn p4": (AllCNN, cyclic(4), None, dict(features=2), (32, 32, 3), jnp.mean),
    "resnet p4 sge": (ResNet, cyclic(4), "sge", dict(depth=18, features=4, classes=3), (33, 33, 3), jnp.mean),
    "resnet p4m se": (ResNet, dihedral(4), "se", dict(depth=50, features=4, classes=3), (33, 33, 3), jnp.mean),
    "resnet p4 sk": (ResNet, cyclic(4), "sk", dict(depth=18, features=4, classes=3), (33, 33, 3), jnp.mean),
    "resnet p4 gc": (ResNet, cyclic(4), "gc", dict(depth=18, features=4, classes=3), (33, 33, 3), jnp.mean),
    "resnet p4 cbam": (ResNet, cyclic(4), "cbam", dict(depth=18, features=4, classes=3), (33, 33, 3), jnp.mean),
    "resnet p4 bam": (ResNet, cyclic(4), "bam", dict(depth=18, features=4, classes=3), (33, 33, 3), jnp.mean),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.default("rot_mnist p4m", "all_cnn p4", "resnet p4 sge")
def test_with_1x1_layers_at_the_identity_it_is_the_plain_network_of_every_moved_image(case):
    make, group, attention, settings, (x, y, c), project = CASES[case]
    plain = networks.random_network(trivial(), attention, make=make, **settings)
    network = inflate(plain, group, pointwise="identity")
    image = random(2, x, y, 1, c)
    expected = project(jnp.stack([jax.jit(plain)(each) for each in moved(image, group)]), axis=0)
    assert_close(jax.jit(network)(image), expected, 1e-10)


def test_filters_stand_at_the_identity_and_1x1_layers_everywhere():
    plain = networks.random_network(
        trivial(), "se", make=ResNet, depth=50, features=4, classes=3, param_dtype=np.float32
    )
    network = inflate(plain, cyclic(4))
    theirs, ours = networks.leaves(plain), networks.leaves(network)
    assert theirs.keys() == ours.keys()
    counts = dict.fromkeys(("copied", "average", "identity"), 0)
    for name, array in ours.items():
        w = theirs[name]
        if array.shape == w.shape:
            kind, expected = "copied", w
        elif name.endswith(".w") and w.shape[0] > 1:
            kind, expected = "identity", np.concatenate([w, np.zeros([*w.shape[:2], 3, *w.shape[3:]])], axis=2)
        else:
            kind, expected = "average", np.concatenate([w / 4] * 4, axis=2)
        counts[kind] += 1
        assert array.dtype == w.dtype and np.array_equal(array, expected), name
    # Sixteen 3x3 filters; two 1x1 filters and two matrices a block, four shortcuts.
    assert counts["identity"] == 16 and counts["average"] == 16 * 4 + 4
    assert network.group == cyclic(4) and network.settings["features"] == 4


def test_averaged_layers_give_every_element_what_the_plain_layer_gives_of_the_mean():
    plain = networks.random_network(trivial(), None, make=ResNet, depth=50, features=4, classes=3)
    layer, inflated = plain.stages[0][0].branch[0], inflate(plain, cyclic(4)).stages[0][0].branch[0]
    f = random(2, 5, 5, 4, 4)
    expected = layer(jnp.mean(f, axis=-2, keepdims=True))
    assert_close(inflated(f), jnp.broadcast_to(expected, (2, 5, 5, 4, 4)), 1e-12)


@pytest.mark.parametrize(
    ("make", "features", "layer"), [(RotMNISTNet, (2,) * 6, 1), (AllCNN, 2, 7)], ids=["3x3", "1x1"]
)
def test_layers_with_attention_on_responses_give_every_element_what_the_plain_one_gives_of_it(make, features, layer):
    plain = networks.random_network(trivial(), "response", make=make, features=features)
    conv, inflated = plain.convolutions[layer], inflate(plain, cyclic(4)).convolutions[layer]
    f = random(2, 5, 5, 4, conv.w.shape[-2])
    assert_close(inflated(f)[..., :1, :], conv(f[..., :1, :]), 1e-12)
    for name in ("w1", "w2"):
        w = getattr(conv, name)[...]
        assert np.array_equal(getattr(inflated, name)[...], np.concatenate([w] * 4, axis=-1))


def test_attentions_filters_of_several_pixels_are_filters():
    options = dict(gather=dict(extent=2, gather_size=2), position=dict(kernel_size=3))
    for attention, (name, given) in zip(("ge", "self"), options.items(), strict=True):
        plain = networks.random_network(
            trivial(), attention, make=RotMNISTNet, features=(4,) * 6, attention_options=given
        )
        theirs, ours = networks.leaves(plain), networks.leaves(inflate(plain, cyclic(4)))
        found = [key for key in theirs if key.endswith(name)]
        assert found
        for key in found:
            others = np.zeros([*theirs[key].shape[:2], 3, theirs[key].shape[3]])
            assert np.array_equal(ours[key], np.concatenate([theirs[key], others], axis=2)), key


def test_the_trivial_group_gives_the_network_itself():
    plain = networks.random_network(trivial(), None, make=RotMNISTNet, features=(2,) * 6)
    for pointwise in ("average", "identity"):
        again = networks.leaves(inflate(plain, trivial(), pointwise=pointwise))
        assert all(np.array_equal(array, again[name]) for name, array in networks.leaves(plain).items())


def test_what_cannot_be_inflated_is_refused():
    small = dict(make=RotMNISTNet, features=(2,) * 6)
    with assert_refused("network must be one of the registry, on the trivial group, got RotMNISTNet on"):
        inflate(networks.random_network(cyclic(4), None, **small), cyclic(4))
    with assert_refused("network must be one of the registry, on the trivial group, got LieResNet on"):
        inflate(networks.random_network(rotations(4), None, make=LieResNet), cyclic(4))
    plain = networks.random_network(trivial(), None, **small)
    with assert_refused('pointwise must be one of "average", "identity", got'):
        inflate(plain, cyclic(4), pointwise="mean")
    with assert_refused("group must leave filters free in every pixel, got ", "take a group of right angles"):
        inflate(plain, cyclic(8))
