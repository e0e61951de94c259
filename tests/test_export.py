"""Exported files of StableHLO: what they hold, that they run without the library, and what is refused."""

import json
import subprocess
import sys
import textwrap
import zipfile

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, assert_refused, without_annotations
from jax.extend.mlir.dialects import stablehlo
from networks import random_network, random_network_of

from attgconv_jax import cyclic, project_max, trivial
from attgconv_jax.export import export_network
from attgconv_jax.export.folding import folded
from attgconv_jax.export.program import program
from attgconv_jax.nn import GroupConv
from attgconv_jax.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(28, mean=0.13, deviation=0.31)
NAMES = [f"digit {i}" for i in range(10)]

# The README's, without its data.
LOADER = """
    import json, zipfile
    import jax, jax.export, numpy as np

    with zipfile.ZipFile(FILE) as file:
        about = json.loads(file.read("network.json"))
        classify = jax.jit(jax.export.deserialize(bytearray(file.read("network.stablehlo"))).call)

    probabilities = np.asarray(classify(images))
    names = [about["class_names"][label] for label in probabilities.argmax(axis=1)]
"""


def pixels(batch, dtype="uint8", shape=(28, 28, 1)):
    top = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    return (np.random.default_rng(batch).random((batch, *shape)) * top).astype(dtype)


def probabilities(network, images):
    return jax.jit(lambda images: jax.nn.softmax(network(PREPROCESSING(images))))(images)


@pytest.fixture(scope="module")
def network():
    return random_network(cyclic(4), features=2, param_dtype=jnp.float32)


@pytest.fixture(scope="module")
def exported(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "digits.zip"
    return path, export_network(path, network, preprocessing=PREPROCESSING, class_names=NAMES)


def test_file_is_loaded_by_a_process_that_cannot_import_the_library(exported, network, tmp_path):
    path, about = exported
    np.savez(tmp_path / "images.npz", one=pixels(1), seven=pixels(7))
    blocked = ["attgconv_jax", "flax", "jaxtyping", "orbax", "optax"]
    code = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in blocked)
    code += f"import numpy as np\nFILE, out = {str(path)!r}, {{}}\nstored = np.load('images.npz')\n"
    code += "for key, images in stored.items():\n" + textwrap.indent(textwrap.dedent(LOADER), "    ")
    code += "    out |= {key: probabilities, key + ' names': names}\nnp.savez('out.npz', **out)\n"
    # Where nothing but what is installed can be found.
    subprocess.run([sys.executable, "-I", "-c", code], check=True, cwd=tmp_path)
    out = np.load(tmp_path / "out.npz")
    for key, images in (("one", pixels(1)), ("seven", pixels(7))):
        wanted = np.asarray(probabilities(network, images))
        assert np.max(np.abs(out[key] - wanted)) <= 1e-5
        assert list(out[f"{key} names"]) == [NAMES[i] for i in wanted.argmax(axis=1)]
    assert about["largest_difference"] <= 1e-5


def test_file_says_what_goes_in_and_what_comes_out(exported):
    path, about = exported
    with zipfile.ZipFile(path) as file:
        assert file.namelist() == ["network.json", "network.stablehlo"]
        assert json.loads(file.read("network.json")) == json.loads(json.dumps(about))
        program = jax.export.deserialize(bytearray(file.read("network.stablehlo")))
    assert program.platforms == ("cpu", "cuda", "tpu")
    # JAX itself writes a later version, which older ones cannot read.
    twelve_weeks = stablehlo.StablehloCompatibilityRequirement.WEEK_12
    version = stablehlo.get_version_from_compatibility_requirement(twelve_weeks)
    assert f"StableHLO_v{version}".encode() in program.mlir_module_serialized
    assert str(program.in_avals[0]) == "uint8[batch,28,28,1]" and str(program.out_avals[0]) == "float32[batch,10]"
    assert about["input"] == {"shape": ["batch", 28, 28, 1], "dtype": "uint8"}
    assert about["output"] == {"shape": ["batch", 10], "dtype": "float32"}
    assert about["gives"] == "probabilities" and about["class_names"] == NAMES and about["network"] == "rot_mnist"
    assert Preprocessing(**about["preprocessing"]) == PREPROCESSING
    assert about["settings"]["group"] == {"rotations": 4, "reflections": False}


def test_banks_are_constants_and_no_filter_is_turned(network):
    def turns(function):
        """Of constants alone."""
        jaxpr = jax.make_jaxpr(function)(jax.ShapeDtypeStruct((2, 28, 28, 1, 1), jnp.float32)).jaxpr
        known, found = set(jaxpr.constvars), 0
        for equation in jaxpr.eqns:
            variables = [v for v in equation.invars if not isinstance(v, jax.extend.core.Literal)]
            if {*variables} <= known:
                known.update(equation.outvars)
                found += equation.primitive.name == "rev"
        return found

    fixed = folded(network, jax.ShapeDtypeStruct((2, 28, 28, 1, 1), jnp.float32))
    assert turns(network.__call__) > 0 == turns(fixed)
    shapes = [v.aval.shape for v in jax.make_jaxpr(fixed)(jnp.zeros([2, 28, 28, 1, 1], jnp.float32)).jaxpr.constvars]
    assert (3, 3, 1, 8) in shapes and (3, 3, 8, 8) in shapes


def test_expansions_are_left_to_the_program_and_calls_inlined():
    weight = jnp.arange(3.0)

    @jax.custom_vjp
    def twice(x):
        return 2 * x

    twice.defvjp(lambda x: (2 * x, None), lambda _, d: (2 * d,))

    def function(x):
        return jax.jit(lambda x: x + jnp.broadcast_to(jnp.sin(weight), (100, 3)))(twice(x))

    fixed = folded(function, jax.ShapeDtypeStruct((100, 3), weight.dtype))
    x = jnp.ones([100, 3])
    jaxpr = jax.make_jaxpr(fixed)(x)
    assert_close(fixed(x), function(x))
    assert [equation.primitive.name for equation in jaxpr.eqns] == ["mul", "broadcast_in_dim", "add"]
    assert [constant.shape for constant in jaxpr.consts] == [(3,)]


class OwnNetwork(nnx.Module):
    """A network of the reader's own, with dropout."""

    def __init__(self, rngs):
        self.lift = GroupConv(3, 4, 3, cyclic(4), lifting=True, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, images):
        f = self.dropout(self.norm(self.lift(images)))
        return self.head(jnp.mean(project_max(f), axis=(-4, -3, -2)))


def test_network_of_ones_own_is_exported_in_evaluation_mode_and_stays_in_training(tmp_path):
    network = OwnNetwork(nnx.Rngs(0))
    network.norm.mean.set_value(jnp.array([1.0, 2, 3, 4]))
    about = export_network(tmp_path / "own.zip", network, shape=[9, 9, 3], platforms=["cpu"])
    assert not network.dropout.deterministic and not network.norm.use_running_average
    with zipfile.ZipFile(tmp_path / "own.zip") as file:
        program = jax.export.deserialize(bytearray(file.read("network.stablehlo")))
    images = np.random.default_rng(0).standard_normal((5, 9, 9, 1, 3)).astype(np.float32)
    logits = program.call(images)
    network.eval()
    assert_close(logits, network(jnp.asarray(images)), 1e-5)
    assert about["gives"] == "logits" and about["network"] == "OwnNetwork" and about["class_names"] == ["0", "1"]
    assert program.platforms == ("cpu",)


def test_classifier_brings_preprocessing_and_names(network):
    class Classifier:
        pass

    classifier = Classifier()
    classifier.network, classifier.preprocessing, classifier.class_names = network, PREPROCESSING, tuple(NAMES)
    description = program(classifier, None, None, [40, 20, 1]).description
    assert description["class_names"] == NAMES and description["input"]["shape"] == ["batch", 40, 20, 1]
    with assert_refused("a classifier has preprocessing and class_names of its own", "leave them out"):
        program(classifier, PREPROCESSING, None, None)


def test_network_that_asks_for_the_batch_is_refused_by_name(tmp_path):
    class Asks(nnx.Module):
        def __call__(self, images):
            return jnp.zeros([len(images) if images.shape[0] > 1 else 1, 2])

    with assert_refused("Asks cannot be exported for a batch of any length", "inconclusive"):
        export_network(tmp_path / "asks.zip", Asks(), shape=[5, 5, 1])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options, parts",
    [
        ({"format": "torch"}, ["format must be", "stablehlo", "onnx", "'torch'"]),
        ({"class_names": ["a", "b"]}, ["class_names must be 10", "got 2"]),
        ({"platforms": ["cpu", "gpu"]}, ["platforms must be among cpu, cuda, tpu", "gpu"]),
        ({"platforms": []}, ["platforms must be among cpu, cuda, tpu", "none"]),
        ({"shape": [28, 28]}, ["shape must be that of one image, [x, y, c]", "[28, 28]"]),
        ({"shape": 3}, ["shape must be that of one image, [x, y, c], got 3"]),
        ({"platforms": "cpu"}, ["platforms must be a list of names among cpu, cuda, tpu, got 'cpu'"]),
        ({"platforms": ["cpu"], "format": "onnx"}, ['platforms must be left out of format "onnx"']),
        ({"platforms": ["cpu", "cuda", "tpu"], "format": "onnx"}, ['platforms must be left out of format "onnx"']),
        ({"class_names": "0123456789"}, ["class_names must be different strings, one a class, got '0123456789'"]),
        ({"class_names": ["a"] * 10}, ["class_names must be different strings"]),
        ({"preprocessing": {"size": 28}}, ["preprocessing must be a Preprocessing, got dict"]),
        ({"shape": [28, 28, 3]}, ["shape must have 1 channels", "(28, 28, 3)"]),
    ],
)
def test_wrong_arguments_are_refused(network, tmp_path, options, parts):
    with without_annotations(), assert_refused(*parts):
        export_network(tmp_path / "file.zip", network, **{"preprocessing": PREPROCESSING} | options)
    assert not list(tmp_path.iterdir())


def test_what_no_batch_can_be_traced_with_is_named_as_such(tmp_path):
    def network(images):
        return images.no_such_method()

    with assert_refused("function cannot be traced: ", "no_such_method"):
        export_network(tmp_path / "file.zip", network, shape=[5, 5, 1])


def test_a_function_of_a_network_in_training_mode_is_refused(tmp_path):
    network = OwnNetwork(nnx.Rngs(0))
    with assert_refused("network must be in evaluation mode, but dropout (Dropout)", "call its eval() first"):
        export_network(tmp_path / "file.zip", lambda images: 2 * network(images), shape=[9, 9, 3])
    assert not list(tmp_path.iterdir())


def test_settings_that_json_cannot_hold_are_refused_before_tracing(tmp_path):
    network = random_network(cyclic(4), features=2, param_dtype=jnp.float32)
    network._settings = tuple((name, len if name == "haar" else value) for name, value in network._settings)
    with assert_refused("haar must be plain values to be saved, got haar=<built-in function len>"):
        export_network(tmp_path / "file.zip", network)


@pytest.mark.parametrize("dtype", ["float64", "uint64"])
def test_pixels_of_64_bits_go_in_as_float32_without_x64(tmp_path, dtype):
    preprocessing = Preprocessing(5, dtype=dtype)

    def network(images):
        return jnp.mean(images, axis=(1, 2, 3)) * jnp.arange(3, dtype=jnp.float32)

    with jax.enable_x64(False):
        about = export_network(tmp_path / "file.zip", network, preprocessing=preprocessing, platforms=["cpu"])
        with zipfile.ZipFile(tmp_path / "file.zip") as file:
            program = jax.export.deserialize(bytearray(file.read("network.stablehlo")))
        got = program.call(np.full([2, 5, 5, 1], preprocessing.white, np.float32))
    assert about["input"]["dtype"] == "float32" and about["preprocessing"]["dtype"] == dtype
    np.testing.assert_allclose(got, jax.nn.softmax(np.arange(3.0) * np.ones([2, 1])), rtol=1e-5)


def test_shape_is_asked_for_where_nothing_says_it(tmp_path):
    network = random_network_of("resnet", trivial(), depth=18, features=2, classes=2)
    with assert_refused("shape must be given, [x, y, c] of one image"):
        program(network, None, None, None)


def test_what_is_there_is_not_overwritten(network, tmp_path):
    (tmp_path / "file.zip").write_text("mine")
    with pytest.raises(FileExistsError, match="choose another path"):
        export_network(tmp_path / "file.zip", network, preprocessing=PREPROCESSING)
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        export_network(tmp_path / "missing" / "file.zip", network, preprocessing=PREPROCESSING)
    assert (tmp_path / "file.zip").read_text() == "mine"


def test_missing_flatbuffers_are_named(network, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r'"stablehlo" needs flatbuffers: pip install "attgconv_jax\[export\]"'):
        export_network(tmp_path / "file.zip", network, preprocessing=PREPROCESSING)


@pytest.mark.slow
def test_large_batches_and_other_pixels(network, tmp_path):
    preprocessing = Preprocessing(28, dtype="uint16", fit="crop", mean=0.2, deviation=0.4)
    export_network(tmp_path / "file.zip", network, preprocessing=preprocessing, shape=[40, 33, 1])
    with zipfile.ZipFile(tmp_path / "file.zip") as file:
        program = jax.export.deserialize(bytearray(file.read("network.stablehlo")))
    images = pixels(64, "uint16", (40, 33, 1))
    wanted = jax.jit(lambda images: jax.nn.softmax(network(preprocessing(images))))(images)
    assert np.max(np.abs(np.asarray(program.call(images)) - wanted)) <= 1e-5
