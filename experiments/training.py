"""The training step, as one pure compiled function, and the error of a network on a split."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from attgconv_jax.models import RotMNISTNet
from experiments.config import ModelConfig, OptimizerConfig, parse_group
from experiments.data import Split


class TrainState(NamedTuple):
    """What a step reads and writes: a pytree, with the network split into arrays."""

    params: Any
    rest: Any
    opt_state: Any
    key: jax.Array


def make_network(config: ModelConfig, classes: int, seed: int) -> RotMNISTNet:
    """The network of a configuration, freshly initialised."""
    attention = None if config.attention == "none" else config.attention
    group = parse_group(config.group)
    return RotMNISTNet(group, attention, classes=classes, dropout_rate=config.dropout_rate, rngs=nnx.Rngs(seed))


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """Adam on the gradient of loss and L2, with a cosine schedule over `steps`."""
    schedule = optax.cosine_decay_schedule(config.learning_rate, steps)
    return optax.chain(optax.add_decayed_weights(config.l2), optax.adam(schedule))


class Trainer:
    """Trains networks of one description: `state = trainer.init(...)`, then one compiled call an epoch.

    Args:
      network: gives the description; its parameters are the first state's.
      optimizer: of the parameters.
      batch_size: images a step.
    """

    def __init__(self, network: RotMNISTNet, optimizer: optax.GradientTransformation, batch_size: int):
        network.train()
        self.graph, params, rest = nnx.split(network, nnx.Param, ...)
        self.first = (params, rest)
        self.optimizer = optimizer
        self.batch_size = batch_size

    def init(self, seed: int) -> TrainState:
        """The first state; `seed` decides the order of the images."""
        params, rest = jax.tree.map(jnp.copy, self.first)
        return TrainState(params, rest, self.optimizer.init(params), jax.random.key(seed))

    def network(self, state: TrainState) -> RotMNISTNet:
        """The network of a state, in evaluation mode."""
        network = nnx.merge(self.graph, state.params, state.rest, copy=True)
        network.eval()
        return network

    def loss(self, params, rest, images, labels):
        """Mean cross-entropy in training mode, and what the network's other variables become."""
        network = nnx.merge(self.graph, params, rest, copy=True)
        logits = network(images)
        loss = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))
        return loss, nnx.split(network, nnx.Param, ...)[2]

    def step(self, state: TrainState, images: jax.Array, labels: jax.Array) -> tuple[TrainState, jax.Array]:
        """One step of the optimiser on one batch."""
        gradient = jax.value_and_grad(self.loss, has_aux=True)
        (loss, rest), grads = gradient(state.params, state.rest, images, labels)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        return TrainState(optax.apply_updates(state.params, updates), rest, opt_state, state.key), loss

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def epoch(self, state: TrainState, images: jax.Array, labels: jax.Array) -> tuple[TrainState, jax.Array]:
        """One pass over shuffled data on the device; returns the state and every step's loss."""
        key, shuffle = jax.random.split(state.key)
        steps = len(labels) // self.batch_size
        order = jax.random.permutation(shuffle, len(labels))[: steps * self.batch_size]

        def step(state, batch):
            return self.step(state, images[batch], labels[batch])

        return jax.lax.scan(step, state._replace(key=key), order.reshape(steps, self.batch_size))


@nnx.jit
def _logits(network, images):
    return network(images)


def predict(network: RotMNISTNet, images: np.ndarray, batch_size: int = 250) -> np.ndarray:
    """Logits `[image, classes]` of a network in evaluation mode, a batch at a time."""
    logits = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        # One shape compiles once: the last batch is filled up and the filling dropped.
        filled = np.concatenate([batch, np.zeros((batch_size - len(batch), *batch.shape[1:]), batch.dtype)])
        logits.append(np.asarray(_logits(network, filled))[: len(batch)])
    return np.concatenate(logits)


def error_rate(network: RotMNISTNet, split: Split) -> float:
    """The share of images that a network in evaluation mode gets wrong, in [0, 1]."""
    return float(np.mean(np.argmax(predict(network, split.images), axis=1) != split.labels))
