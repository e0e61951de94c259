"""The README's picture."""

import jax.numpy as jnp
import pytest
from documents import ROOT
from flax import nnx
from helpers import random

from attgconv_jax import cyclic, trivial
from attgconv_jax.models import RotMNISTNet, save_network
from experiments.report import overlay

IMAGE = random(28, 28, 1, 1).astype(jnp.float32)


def network(group, attention):
    return RotMNISTNet(group, attention, features=2, rngs=nnx.Rngs(0))


def labels(figure):
    return [axis.get_ylabel() for axis in figure.axes if axis.get_ylabel()]


def test_attention_of_an_equivariant_network_turns_with_the_image():
    figure = overlay.overlay_figure(network(cyclic(4), "input"), IMAGE, 1)
    assert len(figure.axes) == 12
    assert labels(figure)[-1] == "turned back:\nall four are equal"
    assert [len(axis.images) for axis in figure.axes] == 4 * [1] + 8 * [2]


def test_that_of_an_ordinary_network_does_not():
    figure = overlay.overlay_figure(network(trivial(), "input_spatial"), IMAGE, 0)
    assert labels(figure)[-1] == "turned back"


def test_attention_to_channels_alone_has_no_overlay():
    with pytest.raises(ValueError, match="layer 1 attends to channels alone: take a network with spatial attention"):
        overlay.overlay_figure(network(cyclic(4), "se"), IMAGE, 1)


def test_command_writes_a_picture_even_of_constant_attention(tmp_path, capsys):
    save_network(tmp_path / "network", network(cyclic(4), "sge"))
    out = tmp_path / "picture.png"
    overlay.cli([str(tmp_path / "network"), "--image", "3", "--out", str(out)])
    assert capsys.readouterr().out == f"picture: {out}\n"
    assert out.stat().st_size > 1000
    assert (ROOT / "experiments/results/attention.png").stat().st_size < 300_000
