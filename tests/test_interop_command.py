"""The command line of `attgconv_jax.interop`: a file in, a checkpoint out, or one line that says why not."""

import os
import pathlib
import pickle
import subprocess
import sys

import jax
import networks
import numpy as np
import pytest
from helpers import random
from published_weights import state_of

from attgconv_jax.interop import REFERENCE_NETWORKS, SOURCES, load_reference, read_state
from attgconv_jax.interop.__main__ import main
from attgconv_jax.lie import rotations
from attgconv_jax.models import load_network

ROOT = pathlib.Path(__file__).parents[1]


def write_state(path, name, dtype=np.float32):
    make, group, attention = REFERENCE_NETWORKS[name]
    network = networks.random_network(group, attention, make=make, param_dtype=dtype)
    state = networks.by_reference_name(network)
    np.savez(path, **state)
    return state


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_checkpoint_gives_the_logits_of_the_state_dict(tmp_path, capsys, dtype):
    state = write_state(tmp_path / "weights.npz", "z2cnn", dtype)
    out = tmp_path / "checkpoints" / "z2"
    assert main([str(tmp_path / "weights.npz"), "z2cnn", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}: z2cnn, 21,620 parameters, {np.dtype(dtype)}\n"
    assert not printed.err
    network, image = load_network(out), random(2, 28, 28, 1, 1).astype(dtype)
    logits = networks.logits(network, image)
    assert logits.dtype == dtype
    assert np.array_equal(logits, networks.logits(load_reference(state, "z2cnn"), image))


def test_the_command_enables_x64_for_itself_alone(tmp_path, capsys):
    write_state(tmp_path / "weights.npz", "z2cnn", np.float64)
    with jax.enable_x64(False):
        assert main([str(tmp_path / "weights.npz"), "z2cnn", str(tmp_path / "out")]) == 0
        assert not jax.config.jax_enable_x64
    assert "float64" in capsys.readouterr().out
    assert load_network(tmp_path / "out").convolutions[0].w.dtype == np.float64


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz"])
def test_a_checkpoint_goes_back_to_the_file_it_came_from(tmp_path, capsys, suffix):
    state = write_state(tmp_path / "weights.npz", "z2cnn")
    assert main([str(tmp_path / "weights.npz"), "z2cnn", str(tmp_path / "out")]) == 0
    file = tmp_path / f"again{suffix}"
    assert main([str(tmp_path / "out"), "z2cnn", str(file), "--back"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"{file}: z2cnn, 21,620 parameters, float32"
    again = read_state(file)
    assert again.keys() == state.keys()
    assert all(again[name].tobytes() == array.tobytes() for name, array in state.items())
    assert main([str(tmp_path / "out"), "p4cnn", str(tmp_path / "other.npz"), "--back"]) == 2
    assert (
        capsys.readouterr().err.startswith("error: network_name must be z2cnn, which it is, got 'p4cnn'")
        and not (tmp_path / "other.npz").exists()
    )


def test_weights_of_another_source_become_a_checkpoint(tmp_path, capsys):
    state = {name: array.astype(np.float32) for name, array in state_of("pytorch_insight/sge_resnet18").items()}
    state |= {"fc.weight": state["fc.weight"][:3], "fc.bias": state["fc.bias"][:3]}
    np.savez(tmp_path / "sge.npz", **state)
    command = [str(tmp_path / "sge.npz"), "sge_resnet18", str(tmp_path / "out"), "--source", "pytorch_insight"]
    assert main(command) == 2
    assert "fc.weight is (3, 512) instead of (1000, 512)" in capsys.readouterr().err
    assert main([*command, "--classes", "3"]) == 0
    assert load_network(tmp_path / "out").settings["classes"] == 3


def test_networks_of_other_sizes_go_there_and_back(tmp_path, capsys):
    state = state_of("sepgconv/ckgresnet")
    np.savez(tmp_path / "ck.npz", **state)
    command = [str(tmp_path / "ck.npz"), "ckgresnet", str(tmp_path / "out"), "--source", "sepgconv", "--settings"]
    settings = ["features=8,8,16", "kernel_size=5", "network_options={'hidden_features': 16}"]
    assert main([*command, "group=rotations(4)", *settings]) == 0
    network = load_network(tmp_path / "out")
    assert network.group == rotations(4) and network.settings["kernel_size"] == 5
    assert main([str(tmp_path / "out"), "ckgresnet", str(tmp_path / "a.pth"), "--source", "sepgconv", "--back"]) == 0
    back = read_state(tmp_path / "a.pth")
    assert back.keys() == state.keys() and all(back[key].tobytes() == state[key].tobytes() for key in state)
    capsys.readouterr()
    for text, message in {
        "group=SE2-4": "group must be like rotations(8), scalings(3, 1.74) or similarities(8, 3, 1.74), got 'SE2-4'",
        "group=rotations(4, 3)": "group must be like rotations(8), ",
        "group=rotations(0)": "angles must be an integer of at least 1, got 0",
        "kind=gseparable": "state is not one of ckgresnet",
        "kind": "settings must be NAME=VALUE, each name once, got 'kind'",
        "clases=3": "settings must be among group, kind, ",
    }.items():
        assert main([*command, text]) == 2
        assert message in capsys.readouterr().err


def test_the_help_says_that_x64_is_enabled(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("usage: python -m attgconv_jax.interop [-h]")
    assert "enables x64" in text
    assert all(name in text for source in SOURCES.values() for name in source.networks)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    write_state(folder / "p4.npz", "p4cnn")
    np.savez(folder / "objects.npz", weight=np.array([None]))
    (folder / "pickle.npz").write_bytes(pickle.dumps({"weight": 1}))
    (folder / "text.npz").write_text("no weights")
    (folder / "weights.h5").write_text("no weights")
    (folder / "taken").mkdir()
    return folder


BAD = {
    "missing file": ("no.npz p4cnn out", "there is no file"),
    "objects": ("objects.npz p4cnn out", "Object arrays cannot be loaded"),
    "pickle": ("pickle.npz p4cnn out", "pickle.npz is not an .npz of plain arrays"),
    "text": ("text.npz p4cnn out", "text.npz is not an .npz of plain arrays"),
    "other suffix": ("weights.h5 p4cnn out", "weights.h5 must be an .npz, .safetensors, "),
    "folder": ("taken p4cnn out", "there is no file"),
    "unknown network": ("p4.npz p4densenet out", "network must be one of z2cnn, p4cnn, f_att_p4cnn, RomHog_att_p4cnn"),
    "other network": ("p4.npz f_att_p4cnn out", "state is not one of f_att_p4cnn; missing: c1.channel_attention"),
    "existing": ("p4.npz p4cnn taken", "exists: choose another path, or remove it first"),
    "under a file": ("p4.npz p4cnn text.npz/out", "text.npz"),
    "no arguments": (
        "",
        "the following arguments are required: FILE, NETWORK, OUT; see python -m attgconv_jax.interop",
    ),
    "unknown source": ("p4.npz p4cnn out --source keras", "invalid choice: 'keras'"),
    "network of another source": ("p4.npz p4cnn out --source timm", "network must be one of resnet18, "),
    "back from a file": ("p4.npz p4cnn out.pth --back", "there is no directory"),
    "back to a file that exists": ("p4.npz p4cnn text.npz --back", "text.npz exists: choose another path"),
    "back with settings": ("p4.npz p4cnn out.pth --back --classes 3", "settings must be left out with --back"),
    "unknown option": ("p4.npz p4cnn out --fast", "unrecognized arguments: --fast; see"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(files, capsys, monkeypatch, case):
    arguments, message = BAD[case]
    monkeypatch.chdir(files)
    before = sorted(os.listdir())
    try:
        status = main(arguments.split())
    except SystemExit as end:
        status = end.code
    printed = capsys.readouterr()
    assert status == 2
    assert not printed.out
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert printed.err.endswith("\n")
    assert message in printed.err
    assert sorted(os.listdir()) == before


@pytest.mark.slow
def test_the_module_runs_as_a_command(tmp_path):
    write_state(tmp_path / "weights.npz", "z2cnn")
    command = [sys.executable, "-m", "attgconv_jax.interop", "weights.npz", "z2cnn", "out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "out: z2cnn, 21,620 parameters, float32\n", "")
    command[3] = "no.npz"
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (2, "", "error: there is no file no.npz\n")
    assert load_network(tmp_path / "out").convolutions[0].w.dtype == np.float32
