"""Thirty wrong inputs: each is one line that names the argument and says what would be right."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_refused, without_annotations

from attgconv_jax import Sampling, cyclic, equivariance_error, filter_bank, group_conv, max_pool, squeeze_excitation
from attgconv_jax.lie import rotations
from attgconv_jax.models import ResNet, RotMNISTNet, load_network, save_network
from attgconv_jax.nn import AttentiveGroupConv, GroupConv, LieConv, SpatialGroupEnhance, SqueezeExcitation
from experiments import compare, evaluate, reproduce, train

P4 = cyclic(4)
IMAGES = jnp.zeros((2, 9, 9, 3), jnp.float32)


SGE = ["--model.attention", "sge"]


def rngs():
    return nnx.Rngs(0)


IN_PYTHON = {
    "images without a group axis": (
        lambda: group_conv(IMAGES, jnp.zeros((3, 3, 1, 3, 4), jnp.float32), P4),
        ("f has 9 group elements", "take f[..., None, :]"),
    ),
    "images without a group axis to a network": (
        lambda: RotMNISTNet(P4, features=2, rngs=rngs())(jnp.zeros((2, 28, 28, 1), jnp.float32)),
        ("image must be [..., 28, 28, 1, ", "image[..., None, :]"),
    ),
    "a missing lifting=True": (
        lambda: GroupConv(3, 4, 3, P4, rngs=rngs())(IMAGES[..., None, :]),
        ("f has 1 group elements", "lifting=True"),
    ),
    "a lifting too many": (
        lambda: GroupConv(3, 4, 3, P4, lifting=True, rngs=rngs())(jnp.zeros((2, 9, 9, 4, 3), jnp.float32)),
        ("f has 4 group elements", "leave out lifting=True"),
    ),
    "an unknown keyword of an operator": (
        lambda: SqueezeExcitation(8, P4, ratio=4, rngs=rngs()),
        ("se has no argument 'ratio'", "it takes reduction, over_group"),
    ),
    "an unknown keyword of an operator in a layer": (
        lambda: AttentiveGroupConv(4, 4, 3, P4, attention="sge", attention_options={"group": 2}, rngs=rngs()),
        ("sge has no argument 'group'", "groups"),
    ),
    "an unknown attention": (
        lambda: AttentiveGroupConv(4, 4, 3, P4, attention="senet", rngs=rngs()),
        ("attention must be one of", "se", "got 'senet'"),
    ),
    "a word for a boolean": (
        lambda: GroupConv(3, 4, 3, P4, lifting="yes", rngs=rngs()),
        ("lifting must be True or False, got 'yes'",),
    ),
    "a fraction of a channel": (
        lambda: GroupConv(3, 2.5, 3, P4, rngs=rngs()),
        ("out_features must be an integer of at least 1, got 2.5",),
    ),
    "groups of channels that do not divide": (
        lambda: SpatialGroupEnhance(10, P4, groups=4, rngs=rngs()),
        ("groups must divide the 10 channels: one of 1, 2, 5, 10; got 4",),
    ),
    "a stride on an even size": (
        lambda: group_conv(jnp.zeros((1, 8, 8, 1, 1)), jnp.zeros((3, 3, 1, 1, 1)), P4, stride=2),
        ("an image of 8 pixels", "Sizes that work: 7, 9", "exact=False"),
    ),
    "a pooling of an odd size": (
        lambda: max_pool(jnp.zeros((1, 9, 9, 4, 1)), P4),
        ("an image of 9 pixels", "Sizes that work: 8, 10"),
    ),
    "a size for ImageNet": (
        lambda: ResNet(18, P4, features=4, rngs=rngs())(jnp.zeros((1, 224, 224, 1, 3), jnp.float32)),
        ("224 pixels", "take 225"),
    ),
    "an interpolation by its name": (
        lambda: filter_bank(jnp.zeros((3, 3, 1, 1, 1)), cyclic(8), sampling="cubic"),
        ("sampling must be a Sampling", 'Sampling("least_error")', "got 'cubic'"),
    ),
    "an unknown interpolation": (
        lambda: Sampling("nearest"),
        ('kind must be one of "least_error", "rings", "bilinear", "cubic", got \'nearest\'',),
    ),
    "weights of another dtype": (
        lambda: group_conv(jnp.zeros((1, 5, 5, 1, 1)), jnp.zeros((3, 3, 1, 1, 1), jnp.float32), P4),
        ("f and w must have one dtype, got float64 and float32; cast one of them",),
    ),
    "weights as a plain tuple": (
        lambda: squeeze_excitation(jnp.zeros((1, 5, 5, 4, 2)), (1, 2), P4),
        ("takes its weights as MLPWeights, got tuple",),
    ),
    "a Lie group in a finite layer": (
        lambda: GroupConv(1, 1, 3, rotations(4), rngs=rngs()),
        ("group must be a finite Group", "LieConv"),
    ),
    "a kind beside a lifting": (
        lambda: LieConv(1, 2, 5, rotations(4), lifting=True, kind="separable", rngs=rngs()),
        ("kind must be left out where images are lifted", "got 'separable'"),
    ),
    "a measure of no function of images": (
        lambda: equivariance_error(lambda f: f[..., :2, :, :, :], jnp.ones((1, 4, 3, 4, 1)), P4),
        ("does not treat the axes x and y alike",),
    ),
    "a checkpoint that is none": (lambda: load_network(__file__), ("there is no directory",)),
}  # fmt: skip


@pytest.mark.parametrize("case", IN_PYTHON)
def test_in_python(case):
    call, parts = IN_PYTHON[case]
    if case == "a checkpoint that is none":
        with pytest.raises(FileNotFoundError, match=parts[0]):
            call()
        return
    with assert_refused(*parts) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A network without attention."""
    folder = tmp_path_factory.mktemp("networks") / "plain"
    save_network(folder, RotMNISTNet(P4, features=2, rngs=rngs()))
    return str(folder)


@pytest.mark.parametrize(
    ("command", "words", "parts"),
    [
        (train, ["--optimizer.epoch", "3"], ("--optimizer.epoch", "--optimizer.epochs")),
        (train, ["digits-z3"], ("the preset must be one of", "perhaps digits-z2")),
        (train, ["--model.name", "resnet50"], ("model.name must be one of", "perhaps resnet")),
        (train, ["--model.attention", "cbm"], ("model.attention must be one of", "perhaps cbam")),
        (train, ["--model.features", "0"], ("features must be an integer of at least 1, got 0",)),
        (train, [*SGE, "--model.attention-options", "group=5"], ("sge has no argument 'group'", "groups")),
        (train, ["--data.name", "cifar"], ("--data.name", "digits")),
        (train, ["--data.path", "nowhere"], ("data.path must be a folder of class folders", "nowhere is not there")),
        (train, ["--data.name", "folder"], ("the data set folder needs data.path",)),
        (train, ["--data.name", "digits", "--data.path", "."], ("data.path is of data.name folder or arrays",)),
        (train, ["--data.shares", "0.5", "0.2", "0.2"], ("data.shares must be three positive numbers of the sum 1",)),
        (evaluate, ["README.md"], ("path must be the folder of a run or of a saved network", "README.md")),
        (evaluate, ["NETWORK", "--data", "digits", "--layer", "3"], ("layer 3: the network has no attention",)),
        (compare, ["no-such-run"], ("no-such-run holds no run", "experiments.train")),
        (reproduce, ["digits", "--budget", "two hours"], ("budget must be a number and s, m, h or d, like 2h",)),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)  # fmt: skip
def test_on_the_command_line(command, words, parts, network, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").touch()
    with pytest.raises(SystemExit) as stopped:
        command.cli([network if word == "NETWORK" else word for word in words])
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert re.fullmatch(r"error: .*\n", message)
    for part in parts:
        assert part in message


def test_numpy_integers_are_integers():
    with without_annotations():
        layer = GroupConv(np.int64(2), np.int32(3), np.int8(3), cyclic(np.int64(4)), padding=np.int64(1), rngs=rngs())
    assert jax.eval_shape(layer, jnp.zeros((1, 5, 5, 4, 2), jnp.float32)).shape == (1, 5, 5, 4, 3)
