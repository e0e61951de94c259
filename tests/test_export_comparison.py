"""Whether a file is taken for that of its network: what differs by more than the tolerance is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import assert_refused, without_annotations
from networks import random_network

from attgconv_jax import cyclic, trivial
from attgconv_jax.export import comparison, export_network
from attgconv_jax.export.comparison import check_tolerance, compared, device_of
from attgconv_jax.export.program import Program
from attgconv_jax.preprocessing import Preprocessing

CPU = jax.devices("cpu")[0]


def difference(logits, other, tolerance=None, preprocessing=True, settings=None, images=None):
    """What is found of a file that gives other logits, or their probabilities, than the network."""
    pixels = jax.ShapeDtypeStruct((3, 2, 2, 1), jnp.uint8)
    about = {"network": "it", "settings": settings, "preprocessing": {"size": 2} if preprocessing else None}
    prepare = Preprocessing(2).apply
    made = Program(lambda images: prepare(jnp.asarray(images)[..., None, :]), logits, pixels, logits, about)
    if not preprocessing:
        made = Program(lambda images: images, logits, jax.ShapeDtypeStruct((3, 2, 2, 1, 1), jnp.float32), logits, about)
    given = jax.nn.softmax if preprocessing else lambda logits: logits
    return compared(made, lambda images: given(other(made.prepare(images))), tolerance, CPU, images)


def means(*slopes, dtype=jnp.float32):
    """Logits that are multiples of the images' mean."""
    return lambda images: jnp.mean(images, axis=(1, 2, 3)).astype(dtype)[:, None] * jnp.array(slopes, dtype)


def test_certain_probabilities_hide_no_difference_of_logits():
    assert difference(means(0, 40, 120), means(0, 40, 120))["largest_difference"] <= 1e-5
    with assert_refused("it was not exported: for images of noise the file's numbers are ", "more than 1e-05"):
        difference(means(0, 40, 120), means(0, 48, 120))


@pytest.mark.parametrize("preprocessing", [True, False])
def test_numbers_are_as_near_as_the_tolerance_whatever_the_networks_own_rounding(preprocessing):
    def steep(images):
        return jnp.sin(3000 * jnp.mean(images, axis=(1, 2, 3)))[:, None] * jnp.array([0, 1, 2], jnp.float32)

    def other(images):
        return steep(images) + jnp.array([0, 1e-4, 0], jnp.float32)

    with assert_refused("more than 1e-05; rounding alone moves the network's own by 0.000", "tolerance="):
        difference(steep, other, preprocessing=preprocessing)
    found = difference(steep, other, 1e-3, preprocessing)
    assert found["tolerance"] == 1e-3 and 1e-5 < found["largest_difference"] < 1e-3


def test_the_tolerance_that_a_message_names_is_enough():
    with pytest.raises(ValueError, match="was not exported") as caught:
        difference(means(0, 1, 2), means(0, 1.001, 2))
    named = float(str(caught.value).split("--tolerance ")[1].rstrip(")"))
    found = difference(means(0, 1, 2), means(0, 1.001, 2), named)
    assert found["tolerance"] == named < 1.1e-3


def test_tolerance_is_that_of_the_coarsest_type():
    wide = means(0, 1, 2, dtype=jnp.float64)
    assert difference(wide, wide)["tolerance"] == 1e-5  # pixels become float32
    assert difference(means(0, 1, 2), means(0, 1, 2))["tolerance"] == 1e-5
    half = means(0, 1, 2, dtype=jnp.bfloat16)
    assert difference(half, half)["tolerance"] == 5e-2
    assert difference(means(0, 1, 2), means(0, 1, 2), settings={"dtype": "bfloat16"})["tolerance"] == 5e-2
    with assert_refused("it with attention se was not exported", "more than 0.05"):
        difference(half, means(0, 1, 3), settings={"attention": "se"})


def test_numbers_that_are_not_finite_are_refused_whatever_the_tolerance():
    with assert_refused("it was not exported", "one of them is not finite"):
        difference(means(0, 1, 2), means(0, np.nan, 2), 1e30)


def test_files_are_compared_on_a_cpu_where_they_run_there():
    assert device_of(["cpu", "cuda"]).platform == "cpu"
    assert (device_of(["tpu"]) is None) == (jax.default_backend() != "tpu")


def test_images_that_are_given_are_compared_beside_noise():
    dark = np.zeros((5, 2, 2, 1), np.uint8)

    def other(images):
        # The fifth image alone is another.
        return means(0, 1, 2)(images) + jnp.all(images == 0, axis=(1, 2, 3))[:, None] * jnp.array([0, 0.1, 0])

    images = np.concatenate([dark[:4] + np.uint8(9), dark[:1]])
    assert difference(means(0, 1, 2), other)["largest_difference"] <= 1e-5
    assert difference(means(0, 1, 2), other, images=images[:4])["largest_difference"] <= 1e-5
    with assert_refused("for the images given the file's numbers are 0.0"):
        difference(means(0, 1, 2), other, images=images)


@pytest.mark.parametrize(
    "shape, dtype", [((3, 28, 28, 1), np.float32), ((28, 28, 1), np.uint8), ((0, 28, 28, 1), np.uint8)]
)
def test_images_that_do_not_go_in_are_refused(tmp_path, shape, dtype):
    network = random_network(trivial(), features=2, param_dtype=jnp.float32)
    with assert_refused("images must be "):
        export_network(tmp_path / "a.zip", network, preprocessing=Preprocessing(28), images=np.zeros(shape, dtype))


@pytest.mark.parametrize("value", [0, -1e-5, float("nan"), float("inf"), True, "1e-5"])
def test_tolerance_must_be_a_positive_number(value):
    with assert_refused("tolerance must be a positive number, such as 1e-4, or None, got"):
        check_tolerance(value)


def test_what_a_file_may_differ_by_is_said_in_it(tmp_path, monkeypatch):
    network = random_network(trivial(), features=2, param_dtype=jnp.float32)
    options = dict(preprocessing=Preprocessing(28), platforms=["cpu"])
    with without_annotations(), assert_refused("tolerance must be a positive number"):
        export_network(tmp_path / "a.zip", network, tolerance="much", **options)
    monkeypatch.setattr(comparison, "TOLERANCES", {"float32": 1e-30})
    with assert_refused("rot_mnist was not exported", "--tolerance"):
        export_network(tmp_path / "a.zip", network, **options)
    assert not list(tmp_path.iterdir())
    about = export_network(tmp_path / "a.zip", network, tolerance=1e-3, **options)
    assert about["tolerance"] == 1e-3 and about["largest_difference"] < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("dtype, tolerance", [("bfloat16", 5e-2), ("float64", 1e-9)])
def test_networks_of_other_types_are_exported(tmp_path, dtype, tolerance):
    param_dtype = jnp.float64 if dtype == "float64" else jnp.float32
    network = random_network(cyclic(4), "input", features=2, dtype=jnp.dtype(dtype), param_dtype=param_dtype)
    about = export_network(tmp_path / "logits.zip", network, platforms=["cpu"])
    assert about["tolerance"] == tolerance
    about = export_network(tmp_path / "a.zip", network, preprocessing=Preprocessing(28), platforms=["cpu"])
    assert about["largest_difference"] <= about["tolerance"] == max(tolerance, 1e-5)
