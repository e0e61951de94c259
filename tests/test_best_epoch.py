"""Which network of a run is kept: the first that is best on validation, whatever it is on test."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np

from experiments.run.loop import Best, _evaluate
from experiments.run.training import TrainState

# Errors after each epoch, of two seeds.
VALIDATION = np.array([[5, 3, 3, 4], [2, 6, 1, 1]])
TEST = np.array([[9, 7, 1, 0], [0, 1, 9, 2]])


def test_the_first_network_that_is_best_on_validation_is_kept():
    splits = {"validation": VALIDATION, "test": TEST}

    def count_errors(params, rest, split):
        return jnp.asarray(splits[split][np.arange(2), params["epoch"] - 1]), np.zeros(2, bool)

    config = SimpleNamespace(test_every=1, seeds=(0, 1), optimizer=SimpleNamespace(epochs=4, patience=1))
    run, dataset = SimpleNamespace(config=lambda: config), SimpleNamespace(splits=lambda: splits)
    trainer = SimpleNamespace(evaluated=lambda state: (state.params, state.rest))
    images = SimpleNamespace(count_errors=count_errors, dataset=dataset)
    best = Best({"epoch": jnp.zeros(2, int)}, {}, jnp.full(2, 99), jnp.zeros(2, int))
    for epoch in range(1, 5):
        params = {"epoch": jnp.full(2, epoch)}
        state = TrainState(params, {}, {}, *[jnp.full(2, epoch)] * 5)
        _, best, errors = _evaluate(trainer, state, best, images, epoch, run)
        assert errors["test_error_percent"] == list(100 * TEST[:, epoch - 1] / len(TEST))
    assert list(best.params["epoch"]) == list(best.epoch) == [2, 3]
    assert list(best.wrong) == [3, 1]
