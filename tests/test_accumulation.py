"""Batches in parts: the whole batch's gradient; what norms see; averages over steps."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_refused

from attgconv_jax.models import load_network
from experiments.augmentation import AugmentConfig
from experiments.data import Dataset, Split, rotated_digits
from experiments.run.accumulation import accumulated
from experiments.run.average import averaged
from experiments.run.configuration import Config, OptimizerConfig
from experiments.run.loop import first_state, last_state, make_trainer
from experiments.run.model_configuration import model
from experiments.run.optimizer import make_optimizer
from experiments.run.training import Trainer
from experiments.train import train_run

NETWORK = model("rot_mnist", "z2", features=(2,), dropout_rate=0.0, dtype="float64")
BATCH = 8


@pytest.fixture(scope="module")
def digits():
    """Sixteen digits a split: two steps an epoch."""
    digits = rotated_digits(seed=0).standardised()
    splits = {name: Split(split.images[:16], split.labels[:16]) for name, split in digits.splits().items()}
    return Dataset("few digits", 10, **splits)


@functools.cache
def trainer(**options):
    optimizer = make_optimizer(OptimizerConfig(schedule="constant"), 2)
    return Trainer(NETWORK, 10, optimizer, BATCH, **options)


def arrays(digits, dtype=jnp.float64):
    return jnp.asarray(digits.train.images, dtype), jnp.asarray(digits.train.labels)


def flat(tree):
    leaves = [leaf for leaf in jax.tree.leaves(tree) if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves])


def one_seed(state):
    return jax.tree.map(lambda leaf: leaf[0], state)


def test_the_gradient_of_parts_is_that_of_the_batch():
    """Of a loss that is not linear in its parameters; what goes from part to part sees every part once."""
    generator = np.random.default_rng(0)
    images, labels = generator.normal(size=(12, 3)), generator.integers(0, 2, 12)

    def loss_of(weights, seen, images, labels, further):
        assert further is None
        losses = jnp.sin(images @ weights) ** 2 * (1 + labels)
        return jnp.mean(losses), (seen + len(labels), jnp.sum(labels, dtype=jnp.int32))

    weights = jnp.asarray(generator.normal(size=3))
    whole, parts = (accumulated(loss_of, weights, jnp.int32(0), (images, labels, None), n) for n in (1, 4))
    (loss, seen, wrong), gradient = parts
    assert int(seen) == 12 and int(wrong) == labels.sum()
    np.testing.assert_allclose(loss, whole[0][0], rtol=1e-14)
    np.testing.assert_allclose(gradient, whole[1], rtol=1e-13)


def test_training_in_parts_is_training_where_norms_stand_still(digits):
    """With the body frozen norms are those of evaluation; mixed pictures stay with their partners' labels."""
    options = dict(freeze="body", augmentation=AugmentConfig(mixup=0.4))
    states = []
    for parts in (1, 4):
        t = trainer(accumulate=parts, **options)
        states.append(t.train(t.init((0,)), *arrays(digits), 2))
    whole, in_parts = states
    np.testing.assert_allclose(flat(in_parts.params), flat(whole.params), rtol=1e-11)
    assert float(in_parts.loss[0]) == pytest.approx(float(whole.loss[0]), rel=1e-12)
    assert in_parts.wrong == whole.wrong


def test_norms_have_the_statistics_of_one_part_after_the_other(digits):
    t = trainer(accumulate=2)
    state = one_seed(t.init((0,)))
    images, labels = (array[:BATCH] for array in arrays(digits))
    after = jax.jit(t.step)(state, images, labels)
    loss, rest, losses = jax.jit(t.loss), state.rest, []
    for part in (slice(0, 4), slice(4, 8)):
        value, (rest, _) = loss(state.params, rest, images[part], labels[part])
        losses.append(float(value))
    np.testing.assert_allclose(flat(after.rest), flat(rest), rtol=1e-12)
    assert float(after.loss) == pytest.approx(np.mean(losses), rel=1e-12)


@pytest.mark.parametrize(("step", "weight"), [(0, 0.9), (5, 9 / 15), (10_000, 0.01)])
def test_an_average_moves_to_the_newest_and_takes_keys_and_counts_as_they_are(step, weight):
    average, newest = (
        {"w": jnp.array([1.0, 2.0]), "count": jnp.int32(3)},
        {"w": jnp.array([2.0, 0.0]), "count": jnp.int32(4)},
    )
    found = averaged(average, newest, 0.99, jnp.int32(step))
    np.testing.assert_allclose(found["w"], [1 + weight, 2 - 2 * weight], rtol=1e-6)
    assert int(found["count"]) == 4


def test_an_average_changes_no_step_and_is_what_is_evaluated(digits):
    plain, averaging = trainer(), trainer(ema_decay=0.5)
    state, other = plain.init((0, 1)), averaging.init((0, 1))
    np.testing.assert_array_equal(flat(other.average), flat((other.params, other.rest)))
    expected = flat(other.average)
    for step in range(3):
        state, other = (t.train(s, *arrays(digits), 1) for t, s in ((plain, state), (averaging, other)))
        np.testing.assert_array_equal(flat(other.params), flat(state.params))
        decay, newest = min(0.5, (1 + step) / (10 + step)), flat((other.params, other.rest))
        expected = decay * expected + (1 - decay) * newest
    floating = [leaf for leaf in jax.tree.leaves(other.average) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert floating
    np.testing.assert_allclose(flat(averaging.evaluated(other)), expected, rtol=1e-6)
    assert np.abs(flat(averaging.evaluated(other)[0]) - flat(other.params)).max() > 1e-4
    np.testing.assert_array_equal(flat(plain.evaluated(state)), flat((state.params, state.rest)))


def test_an_average_begins_with_the_weights_that_a_run_starts_from():
    def start(state):
        return state._replace(params=jax.tree.map(lambda leaf: leaf + 1, state.params))

    state, best = first_state(trainer(ema_decay=0.9), (0,), start)
    np.testing.assert_array_equal(flat(state.average[0]), flat(state.params))
    np.testing.assert_array_equal(flat(best.params), flat(state.params))


@pytest.mark.slow
def test_a_run_keeps_its_averages(tmp_path, digits):
    """The last network is the average, and its errors are those that the report has."""
    optimizer = OptimizerConfig(epochs=2, batch_size=8, ema_decay=0.9, accumulate=2, gradient_checkpointing=True)
    config = Config(model=dataclasses.replace(NETWORK, dtype="float32"), optimizer=optimizer, test_every=1)
    run = train_run(config, tmp_path / "run", digits)
    record = run.metrics()[-1]
    assert record["images_per_second"] > 0 and math.isfinite(record["images_per_second"])
    assert run.report["last_epoch"]["error_percent"]["test"] == record["test_error_percent"]
    state, _, _ = last_state(run, make_trainer(config, digits))
    last = flat(nnx.state(load_network(tmp_path / "run" / "networks" / "seed-0-last"), nnx.Param))
    np.testing.assert_array_equal(last, flat(state.average[0]))
    assert np.abs(last - flat(state.params)).max() > 1e-4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(accumulate=5), "optimizer.accumulate must be a divisor of batch_size 8, got 5"),
        (dict(accumulate=0), "optimizer.accumulate must be a divisor of batch_size 8, got 0"),
        (dict(ema_decay=1.0), "optimizer.ema_decay must be in (0, 1), got 1.0"),
    ],
    ids=str,
)
def test_wrong_options_are_refused(wrong, message):
    with assert_refused(message):
        OptimizerConfig(batch_size=8, **wrong)


def test_parts_of_one_image_are_refused_where_norms_need_two(digits):
    config = Config(
        model=model("rot_mnist", "z2", "srm", features=(2,)), optimizer=OptimizerConfig(batch_size=4, accumulate=4)
    )
    with assert_refused("optimizer.accumulate must leave parts of at least 2 for this network, got 1, 4 parts of 4"):
        make_trainer(config, digits)
