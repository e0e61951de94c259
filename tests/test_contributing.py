"""Adding a thing is adding a file: what CONTRIBUTING.md shows, carried out on a copy of the packages."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

import pytest
from documents import ROOT

FILES = dict(
    re.findall(
        r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE
    )
)


def test_there_is_an_example_of_each():
    assert {path.rsplit("/", 1)[0] for path in FILES} == {
        "attgconv_jax/attention",
        "attgconv_jax/kernels",
        "attgconv_jax/models",
        "experiments/bench",
        "experiments/data",
        "tests/operator_oracles",
    }


@pytest.mark.parametrize("path", FILES)
def test_no_file_of_that_name_is_there(path):
    assert not (ROOT / path).exists()
    assert (ROOT / path).parent.is_dir()


@pytest.fixture
def run(tmp_path):
    """Runs a Python in a copy of the packages to which some of the files are added, and returns what it prints."""
    for folder in ("attgconv_jax", "experiments", "tests"):
        left_out = shutil.ignore_patterns("__pycache__", "*.png", "*.gif", "test_*.py", "fixtures", "results")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=left_out)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)

    def run(added, *words):
        for path, text in FILES.items():
            if path.startswith(added):
                (tmp_path / path).write_text(text)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(tmp_path / "tests")]),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        words = [sys.executable, *(textwrap.dedent(word) for word in words)]
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


# What a command line answers to a name that is not there.
CHOICES = """
    import contextlib, io, re

    def choices(*words):
        from experiments.train import cli
        message = io.StringIO()
        with contextlib.suppress(SystemExit), contextlib.redirect_stderr(message):
            cli(["digits", *words])
        return re.findall("[^ ',()]+", message.getvalue())
"""


def test_an_operator_is_a_file_and_its_oracle_another(run):
    code = (
        CHOICES
        + """
    import jax
    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx
    from helpers import assert_close, random
    from operator_oracles import ORACLES, VARIANTS, weights_of

    from attgconv_jax import OPERATORS, cyclic, equivariance_error
    from attgconv_jax.models import RotMNISTNet
    from attgconv_jax.nn import ATTENTIONS
    from experiments.bench.attention import ROWS

    f, group = random(2, 4, 2, 4, 4), cyclic(4)
    for variant in ("lct", "lct over group"):
        name, options = VARIANTS[variant]
        weights = weights_of(variant, 4, 4, 4)
        alpha = OPERATORS[name].apply(f, weights, group, **options)
        assert_close(alpha, ORACLES[name](np.asarray(f), weights, group, **options), 1e-10)
    module = ATTENTIONS["lct"](4, group, over_group=True, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    assert type(module).__name__ == "LinearContext"
    assert "over_group: whether statistics" in type(module).__doc__
    assert equivariance_error(module, random(2, 4, 4, 4, 4), group) < 1e-10
    network = nnx.eval_shape(lambda: RotMNISTNet(group, "lct", features=4, rngs=nnx.Rngs(0)))
    assert network.attending_layers == [1, 2, 3, 4, 5, 6]
    assert ("Linear context transform", "lct", ()) in ROWS
    assert "lct" in choices("--model.attention", "lcd")
    """
    )
    run(("attgconv_jax/attention", "tests/operator_oracles"), "-c", code)


@pytest.mark.slow
def test_an_operator_passes_the_tests_of_all_operators(run, tmp_path):
    for name in ("test_operators.py", "test_nn_operators.py", "test_rank_promotion.py"):
        shutil.copy(ROOT / "tests" / name, tmp_path / "tests")
    words = ["-m", "pytest", "-n0", "-q", "tests", "-k", "lct", "-p", "no:cacheprovider"]
    out = run(("attgconv_jax/attention", "tests/operator_oracles"), *words)
    assert int(re.search(r"(\d+) passed", out)[1]) > 20


@pytest.mark.slow
def test_a_network_is_a_file(run):
    code = (
        CHOICES
        + """
    import jax.numpy as jnp
    import numpy as np
    from flax import nnx

    import attgconv_jax
    from attgconv_jax import cyclic
    from attgconv_jax.models import NETWORKS, load_network, save_network

    entry = NETWORKS["small_net"]
    assert attgconv_jax.models.SmallNet is entry.network
    assert not entry.lie
    assert {"features", "depth"} <= entry.options().keys()
    network = entry.network(cyclic(4), "sge", features=2, depth=1, rngs=nnx.Rngs(0))
    network.eval()
    save_network("saved", network)
    image = jnp.asarray(np.random.default_rng(0).random([2, 9, 9, 1, 1]), jnp.float32)
    logits = nnx.jit(lambda network, image: network(image))
    assert np.array_equal(logits(load_network("saved"), image), logits(network, image))
    assert logits(network, image).shape == (2, 10)
    assert "small_net" in choices("--model.name", "small_nets")
    """
    )
    run("attgconv_jax/models", "-c", code)


@pytest.mark.slow
def test_a_data_set_is_a_file(run):
    code = (
        CHOICES
        + """
    from experiments.data import NAMES, load

    assert "upright_digits" in NAMES
    dataset = load("upright_digits", test_images=10).standardised()
    assert [len(split) for split in dataset.splits().values()] == [1000, 297, 10]
    assert "upright_digits" in choices("--data.name", "upright")
    """
    )
    run("experiments/data", "-c", code)


@pytest.mark.slow
def test_a_kernel_is_a_file(run):
    code = """
    import jax
    import numpy as np
    from attgconv_jax.kernels.power import mean_square

    f = jax.random.normal(jax.random.key(0), [3, 5, 4, 2])
    expected = np.mean(np.square(f), axis=(1, 2))
    for implementation in (None, "dot", "sum"):
        np.testing.assert_allclose(jax.jit(mean_square, static_argnums=1)(f, implementation), expected, 1e-6)
    """
    run("attgconv_jax/kernels", "-c", code)


@pytest.mark.slow
def test_a_measurement_is_a_file(run, tmp_path):
    out = run("experiments/bench", "-m", "experiments.bench.lifting", "--batch-size", "1", "--repeats", "1")
    assert "| dihedral(4) |" in out
    assert (tmp_path / "lifting-cpu.json").is_file()
