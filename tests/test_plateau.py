"""A learning rate that is halved where validation accuracy stands still: every seed's own, and part of checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.data import Dataset, Split, rotated_digits
from experiments.run.configuration import Config, OptimizerConfig
from experiments.run.extending import extension, extension_message
from experiments.run.loop import fit, make_trainer
from experiments.run.metrics import read_metrics
from experiments.run.model_configuration import model
from experiments.run.optimizer import make_optimizer
from experiments.run.plateau import PlateauState, after_epoch, learning_rates
from experiments.run.workdir import Run


def config(epochs, patience=2, learning_rate=0.05, seeds=(0, 1)):
    optimizer = OptimizerConfig(
        "sgd", learning_rate, "plateau", patience=patience, epochs=epochs, batch_size=16, weight_decay=0.01
    )
    network = model("rot_mnist", "z2", features=(1,), dropout_rate=0.1)
    return Config(model=network, optimizer=optimizer, test_every=100, seeds=seeds)


@pytest.fixture(scope="module")
def digits():
    """Fifty digits a split."""
    digits = rotated_digits(seed=0).standardised()
    splits = {name: Split(split.images[:50], split.labels[:50]) for name, split in digits.splits().items()}
    return Dataset("few digits", 10, **splits, provenance=digits.provenance)


def trained(workdir, config, digits, extend=False, **options):
    run = Run(workdir)
    with run.locked():
        run.begin(config, digits, extend=extend)
        return fit(run, make_trainer(config, digits, run.extensions), digits, **options)[0]


def by_hand(accuracies, patience):
    """The factor after every epoch: a loop over what the rule says."""
    best, waited, factor, factors = -np.inf, 0, 1.0, []
    for accuracy in accuracies:
        if accuracy > best:
            best, waited = accuracy, 0
        else:
            waited += 1
            if waited == patience:
                factor, waited = factor / 2, 0
        factors.append(factor)
    return factors


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_the_factor_is_halved_after_as_many_epochs_without_better_accuracy(patience):
    """For every seed on its own; equal accuracy is not better, and after a fall counting begins anew."""
    generator = np.random.default_rng(patience)
    accuracies = generator.integers(0, 6, (40, 3)) + np.arange(40)[:, None] // 10
    state = (PlateauState(jnp.ones(3), jnp.zeros(3, jnp.int32)), "another state")
    best, factors = np.full(3, -1), []
    for now in accuracies:
        state = (after_epoch(state[0], jnp.asarray(now > best), patience), state[1])
        best = np.maximum(best, now)
        factors.append(np.asarray(state[0].factor))
    expected = np.stack([by_hand(column, patience) for column in accuracies.T], axis=1)
    np.testing.assert_array_equal(factors, expected)
    assert expected.min() < 1


def test_the_factor_multiplies_the_whole_update():
    """Decoupled decay included, as a learning rate does."""
    plain, other = config(4).optimizer, OptimizerConfig("sgd", 0.05, "constant", epochs=4, weight_decay=0.01)
    params, gradient = {"w": jnp.array([1.0, -2.0])}, {"w": jnp.array([0.5, 0.25])}
    optimizer, constant = make_optimizer(plain, 10), make_optimizer(other, 10)
    state = optimizer.init(params)
    assert learning_rates(0.05, constant.init(params)) == 0.05
    first, _ = optimizer.update(gradient, state, params)
    np.testing.assert_array_equal(first["w"], constant.update(gradient, constant.init(params), params)[0]["w"])
    state = after_epoch(state, jnp.array(False), 1)
    assert learning_rates(0.05, state) == pytest.approx(0.025)
    second, _ = optimizer.update(gradient, state, params)
    np.testing.assert_array_equal(second["w"], first["w"] / 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, digits):
    """Folder and last state of a run of seven epochs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, trained(folder, config(7, patience=1), digits)


def test_a_run_has_the_rates_that_its_validation_errors_make(whole):
    """Of every seed its own, written with each epoch; the last fall is that of a step to come."""
    folder, state = whole
    records = read_metrics(folder)
    errors, rates = (
        np.array([record[name] for record in records]) for name in ("validation_error_percent", "learning_rate")
    )
    factors = np.stack([by_hand(-column, 1) for column in errors.T], axis=1)
    np.testing.assert_allclose(rates, 0.05 * np.concatenate([np.ones([1, 2]), factors[:-1]]))
    assert learning_rates(1.0, state.opt_state) == factors[-1].tolist()
    assert factors[-1].max() < 1


def test_a_run_in_parts_ends_bit_for_bit_as_one_in_one_piece(tmp_path, digits, whole):
    """Continued from its checkpoints by the command that extends it."""
    for epochs in (3, 5, 7):
        state = trained(tmp_path / "parts", config(epochs, patience=1), digits, extend=True, checkpoint_seconds=0)
    for a, b in zip(*(jax.tree.leaves(each) for each in (whole[1], state)), strict=True):
        keys = jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key)
        np.testing.assert_array_equal(*((jax.random.key_data(x) if keys else x) for x in (a, b)))
    rates = [[record["learning_rate"] for record in read_metrics(at)] for at in (whole[0], tmp_path / "parts")]
    assert rates[0] == rates[1]


def test_an_extension_says_what_becomes_of_the_rate():
    record = extension(config(10), 20, 30, 3)
    assert extension_message(config(20).optimizer, 3, [record]) == (
        "extended from 10 to 20 epochs: the learning rate is halved where validation accuracy stands still, as before"
    )
