"""The training step's promises: what decides its numbers, what does not, and what the optimisers add up to."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from attgconv_jax.lie import rotations
from attgconv_jax.models import LieResNet
from experiments.data import Dataset, Split, rotated_digits
from experiments.run.configuration import OptimizerConfig
from experiments.run.evaluation import predict
from experiments.run.loop import Best, _keep_best, first_state
from experiments.run.model_configuration import model
from experiments.run.optimizer import make_optimizer, make_schedule
from experiments.run.training import Trainer, make_network

STEPS = 3


@pytest.fixture(scope="module")
def digits():
    """Fifty digits a split: three steps of 16 an epoch."""
    digits = rotated_digits(seed=0).standardised()
    splits = {name: Split(split.images[:50], split.labels[:50]) for name, split in digits.splits().items()}
    return Dataset("few digits", 10, **splits)


@functools.cache
def trainer(mode="loop", dtype="float32", **fields):
    config = {"name": "rot_mnist", "group": "z2", "dropout_rate": 0.1, "dtype": dtype} | fields
    return Trainer(model(**config), 10, make_optimizer(OptimizerConfig(schedule="constant"), STEPS), 16, mode)


def after(trainer, digits, seeds, calls):
    """The state after calls of so many steps each."""
    state = trainer.init(seeds)
    for count in calls:
        state = trainer.train(state, *arrays(digits), count)
    return state


def arrays(digits):
    return jnp.asarray(digits.train.images), jnp.asarray(digits.train.labels)


def flat(tree, seed=0):
    """One seed's floating numbers in one vector."""
    leaves = [np.asarray(leaf[seed], np.float64).ravel() for leaf in jax.tree.leaves(tree)]
    return np.concatenate(leaves)


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_network(digits):
    first, again, other = (after(trainer(), digits, (seed,), [STEPS]) for seed in (0, 0, 1))
    np.testing.assert_array_equal(flat(first.params), flat(again.params))
    assert np.abs(flat(first.params) - flat(other.params)).max() > 1e-3


def test_how_steps_are_cut_into_calls_changes_no_bit(digits):
    whole, cut = (after(trainer(), digits, (0,), calls) for calls in ([3, 3], [1, 2, 2, 1]))
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(cut), strict=True):
        keys = jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
        np.testing.assert_array_equal(*((jax.random.key_data(x) if keys else x) for x in (a, b)))


@pytest.mark.slow
def test_on_a_lie_group_random_grids_follow_the_seed_however_steps_are_cut(digits):
    """And every step has grids of its own: the same step with the first grids again comes out elsewhere."""
    t = trainer(name="lie_resnet", group="SE2-2", features=(2, 2), random_grids=True, dropout_rate=0.0)
    whole, cut = (after(t, digits, (0,), calls) for calls in ([3], [1, 2]))
    np.testing.assert_array_equal(flat(whole.params), flat(cut.params))
    same = t.init((0,))
    for _ in range(STEPS):
        _, rest = nnx.split_state(same.rest, nnx.RngCount, ...)
        counts, _ = nnx.split_state(t.init((0,)).rest, nnx.RngCount, ...)
        same = t.train(same._replace(rest=nnx.merge_state(counts, rest)), *arrays(digits), 1)
    assert np.abs(flat(same.params) - flat(whole.params)).max() > 1e-4


def test_kernel_networks_of_a_lie_group_are_those_of_the_configuration():
    options = dict(hidden_features=6, hidden_layers=0, frequency=2.5)
    named = tuple(f"{name}={value}" for name, value in options.items())
    config = model("lie_resnet", "SE2-2", features=(2, 2), network="multiplicative", network_options=named)
    network = make_network(config, 10, 0)
    expected = LieResNet(
        rotations(2),
        features=(2, 2),
        network="multiplicative",
        network_options=options,
        rngs=nnx.Rngs(0),
    )
    chex.assert_trees_all_equal(*(nnx.state(each, nnx.Param) for each in (network, expected)))
    # 2 coordinates, 6 waves, 2 values; with no hidden layer the only frequencies are those of one filter.
    assert sum(map(jnp.size, jax.tree.leaves(nnx.state(network.lifting, nnx.Param)))) == 2 * 6 + 6 + 6 * 2 + 2


def test_training_is_its_steps_one_by_one(digits):
    """An epoch visits every image at most once, the next in another order, and counts what it sees."""
    t = trainer()
    start = t.init((3,))
    state = jax.tree.map(lambda leaf: leaf[0], start)
    step, seen = jax.jit(t.step), []
    for epoch in range(2):
        order = jax.random.permutation(jax.random.fold_in(state.key, epoch), 50)[:48].reshape(STEPS, 16)
        assert len(np.unique(order)) == 48
        seen.append(np.asarray(order))
        state = state._replace(loss=jnp.zeros([]), wrong=jnp.int32(0))
        for batch in order:
            state = step(state, digits.train.images[batch], digits.train.labels[batch])
    assert not np.array_equal(*seen)
    whole = after(t, digits, (3,), [3, 3])
    np.testing.assert_allclose(flat(whole.params), flat(jax.tree.map(lambda x: x[None], state.params)), atol=1e-4)
    assert float(whole.loss[0]) == pytest.approx(float(state.loss), rel=1e-3)
    assert int(whole.step[0]) == 6


@pytest.mark.parametrize("mode", ["loop", "vmap"])
@pytest.mark.slow
def test_a_seed_among_others_agrees_with_the_seed_alone(digits, mode):
    """40 steps in float64 agree to 1e-8 relative to the largest parameter: dropout, shuffling, statistics and all."""
    model = dict(dtype="float64")
    together = after(trainer(mode, **model), digits, (7, 0, 5), [3] * 13 + [1])
    alone = after(trainer("loop", **model), digits, (0,), [3] * 13 + [1])
    assert int(alone.step[0]) == 40
    for part in ("params", "opt_state"):
        expected, actual = flat(getattr(alone, part)), flat(getattr(together, part), seed=1)
        assert np.abs(actual - expected).max() <= 1e-8 * np.abs(expected).max()
    assert np.abs(flat(together.params, 0) - flat(together.params, 1)).max() > 1e-2


def test_dropout_draws_a_new_mask_every_step(digits):
    t = trainer(dropout_rate=0.5)
    params, rest = jax.tree.map(lambda leaf: leaf[0], t.init((0,))[:2])
    images, labels = digits.train.images[:16], digits.train.labels[:16]
    loss = jax.jit(t.loss)
    first, (later, _) = loss(params, rest, images, labels)
    assert float(first) == float(loss(params, rest, images, labels)[0])
    assert float(first) != float(loss(params, later, images, labels)[0])


@pytest.mark.slow
def test_bfloat16_computes_in_bfloat16_and_keeps_float32(digits):
    t = trainer(dtype="bfloat16")
    state = after(t, digits, (0,), [STEPS])
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    network = t.network(state.params, state.rest, 0)
    assert network(jnp.asarray(digits.test.images[:2])).dtype == jnp.bfloat16
    difference = flat(state.params) - flat(after(trainer(), digits, (0,), [STEPS]).params)
    assert 1e-4 < np.abs(difference).max() < 0.1


def test_errors_are_counted_for_every_seed_and_filling_does_not_count(digits):
    t = trainer()
    state = t.init((0, 1))
    # Fresh networks find class 0 in an empty image, as which it would go unnoticed that filling counts.
    params = jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(7), leaf.shape), state.params)
    state = state._replace(params=params)
    empty = np.zeros_like(digits.test.images[:1])
    assert any(predict(t.network(state.params, state.rest, seed), empty).argmax() for seed in range(2))
    for count in (1, 50):
        images, labels = np.array(digits.test.images[:count]), digits.test.labels[:count]
        images[0, 3, 3] = np.nan
        wrong, bad = t.count_errors(state.params, state.rest, images, labels)
        assert bad.tolist() == [1, 1]
        for seed in range(2):
            predictions = predict(t.network(state.params, state.rest, seed), images).argmax(axis=1)
            assert int(wrong[seed]) == 1 + np.sum(predictions[1:] != labels[1:])


def test_predict_fills_and_drops_the_last_batch(digits):
    state = trainer().init((0,))
    network = trainer().network(state.params, state.rest, 0)
    many = np.concatenate([digits.train.images, digits.test.images] * 3)
    np.testing.assert_allclose(predict(network, many)[250:], predict(network, many[250:]), atol=1e-5)


@pytest.mark.slow
def test_a_network_learns_its_training_images(digits):
    t = trainer(dropout_rate=0.0)
    state = after(t, digits, (0,), [3] * 20)
    wrong, _ = t.count_errors(state.params, state.rest, digits.train.images, digits.train.labels)
    assert int(wrong[0]) == 0


def test_the_first_bad_step_is_named_and_never_forgotten(digits):
    images = np.array(digits.train.images)
    order = jax.random.permutation(jax.random.fold_in(trainer().init((0,)).key[0], 0), 50)
    images[order[20]] = np.inf
    state = trainer().train(trainer().init((0,)), jnp.asarray(images), jnp.asarray(digits.train.labels), 3)
    assert state.first_bad_step.tolist() == [2]


def test_the_earliest_of_the_best_networks_is_kept_for_every_seed(digits):
    t = trainer()
    best = first_state(t, (0, 1))[1]
    networks = [jax.tree.map(lambda leaf, e=epoch: jnp.full_like(leaf, e), best.params) for epoch in range(4)]
    for epoch, wrong in [(1, [5, 9]), (2, [5, 8]), (3, [7, 8])]:
        best = _keep_best(best, networks[epoch], best.rest, jnp.array(wrong, jnp.int32), epoch)
    assert best.epoch.tolist() == [1, 2] and best.wrong.tolist() == [5, 8]
    assert set(flat(best.params, 0)) == {1.0} and set(flat(best.params, 1)) == {2.0}
    assert isinstance(best, Best)


def updates(config, gradient, params, steps=1):
    """What the optimiser adds to the parameters in its last step of several with the same gradient."""
    optimizer = make_optimizer(config, steps_per_epoch=10)
    state = optimizer.init(params)
    for _ in range(steps):
        change, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, change)
    return np.asarray(change)


def test_l2_is_added_to_the_gradient():
    config = OptimizerConfig(learning_rate=1.0, l2=0.5)
    # The gradient of loss and L2 is zero here, so Adam must not move.
    np.testing.assert_allclose(updates(config, jnp.array([-1.0, 2.0]), jnp.array([2.0, -4.0])), 0, atol=1e-6)


def test_weight_decay_is_decoupled():
    config = OptimizerConfig(learning_rate=0.1, l2=0.0, weight_decay=0.5, schedule="constant")
    # Adam's first step is the learning rate in the gradient's direction, whatever the gradient's size.
    change = updates(config, jnp.array([3.0, -1e-3]), jnp.array([2.0, -4.0]))
    np.testing.assert_allclose(change, [-0.1 - 0.1 * 0.5 * 2, 0.1 + 0.1 * 0.5 * 4], rtol=1e-4)


def test_clipping_bounds_the_gradient_of_the_loss_before_l2():
    config = OptimizerConfig(name="sgd", momentum=0.0, learning_rate=1.0, l2=0.1, clip_norm=1.0, schedule="constant")
    change = updates(config, jnp.array([30.0, 40.0]), jnp.array([10.0, 0.0]))
    np.testing.assert_allclose(change, [-(0.6 + 1.0), -0.8], rtol=1e-6)


def test_momentum_adds_up():
    config = OptimizerConfig(name="sgd", momentum=0.5, learning_rate=0.1, l2=0.0, schedule="constant")
    np.testing.assert_allclose(updates(config, jnp.array([1.0]), jnp.array([0.0]), steps=3), [-0.175], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (dict(schedule="constant"), {0: 1, 99: 1}),
        (dict(schedule="cosine"), {0: 1, 50: 0.5, 100: 0}),
        (dict(schedule="step", milestones=(3, 6), decay=0.1), {0: 1, 29: 1, 31: 0.1, 59: 0.1, 61: 0.01}),
        (dict(schedule="constant", warmup_epochs=2), {0: 0, 10: 0.5, 20: 1, 99: 1}),
        (dict(schedule="step", milestones=(3,), warmup_epochs=1), {5: 0.5, 10: 1, 29: 1, 31: 0.1}),
        (dict(schedule="cosine", warmup_epochs=5), {25: 0.5, 50: 1, 75: 0.5, 100: 0}),
    ],
    ids=str,
)
def test_schedules(options, expected):
    schedule = make_schedule(OptimizerConfig(learning_rate=1.0, epochs=10, **options), steps_per_epoch=10)
    for step, rate in expected.items():
        assert float(schedule(step)) == pytest.approx(rate, abs=1e-6)
