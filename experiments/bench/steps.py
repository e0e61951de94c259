"""Compiled training steps on random images: as a run takes them, several a call, and a bare one of any network."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.augmentation import AugmentConfig
from experiments.run.configuration import OptimizerConfig
from experiments.run.model_configuration import ModelConfig
from experiments.run.optimizer import make_optimizer
from experiments.run.training import Trainer, make_network


@dataclasses.dataclass
class Step:
    """A training step and its state, which every call uses up and replaces: `state = program(state, *data)`.

    The first entry of the state are the parameters. A bare step's `lower` takes a sharding of all arguments.
    """

    lower: Callable[..., jax.stages.Lowered]
    make_state: Callable[[], tuple]
    make_data: Callable[[], tuple]
    compiled: jax.stages.Compiled | None = None
    state: tuple | None = None
    data: tuple | None = None

    def compile(self) -> float:
        """Compiles it; the seconds that took."""
        started = time.perf_counter()
        self.compiled = self.lower().compile()
        return time.perf_counter() - started

    def prepare(self) -> None:
        """Makes state and data."""
        if self.state is None:
            self.state, self.data = jax.block_until_ready((self.make_state(), self.make_data()))

    def __call__(self) -> Any:
        """The next state."""
        self.prepare()
        self.state = self.compiled(self.state, *self.data)
        return self.state

    @property
    def parameters(self) -> int:
        """How many numbers."""
        self.prepare()
        return sum(leaf.size for leaf in jax.tree.leaves(self.state[0]))


class Case(NamedTuple):
    """A network, its images and how it is trained."""

    make: Callable[..., nnx.Module]
    size: int
    channels: int
    optimizer: optax.GradientTransformation


def trainer_step(
    config: ModelConfig, batch_size: int, steps: int, calls: int, augmentation: AugmentConfig | None = None
) -> Step:
    """`steps` training steps a call, as a run takes them, in epochs of `calls` calls."""
    optimizer = make_optimizer(OptimizerConfig(), steps * calls)
    trainer = Trainer(config, 10, optimizer, batch_size, augmentation=augmentation)
    state = trainer.init((0,))

    generator = np.random.default_rng(0)
    images = jnp.asarray(generator.normal(size=(steps * batch_size, 28, 28, 1, 1)), jnp.float32)
    data = images, jnp.asarray(generator.integers(0, 10, steps * batch_size), jnp.int32), steps
    return Step(lambda: Trainer.train.lower(trainer, state, *data), lambda: state, lambda: data)


def bare_step(case: Case, batch_size: int) -> Step:
    """One training step without what a run keeps beside it: shuffling, counts, checks."""

    def build():
        graph, params, rest = nnx.split(case.make(nnx.Rngs(0)), nnx.Param, ...)
        return graph, (params, rest, case.optimizer.init(params))

    images = jax.ShapeDtypeStruct((batch_size, case.size, case.size, 1, case.channels), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch_size,), jnp.int32)

    def lower(place=None):
        graph, shapes = nnx.eval_shape(build)

        def step(state, images, labels):
            params, rest, opt_state = state

            def loss(params):
                network = nnx.merge(graph, params, rest, copy=True)
                losses = optax.softmax_cross_entropy_with_integer_labels(network(images), labels)
                return jnp.mean(losses), nnx.state(network, nnx.Not(nnx.Param))

            gradients, rest_after = jax.grad(loss, has_aux=True)(params)
            updates, opt_state = case.optimizer.update(gradients, opt_state, params)
            return optax.apply_updates(params, updates), rest_after, opt_state

        return jax.jit(step, donate_argnums=0).lower(*placed((shapes, images, labels), place))

    def make_data():
        key = jax.random.key(0)
        pictures = jax.random.normal(key, images.shape, images.dtype)
        return pictures, jax.random.randint(key, labels.shape, 0, 10, labels.dtype)

    return Step(lower, jax.jit(lambda: build()[1]), make_data)


def inference(case: Case, batch_size: int) -> Callable[..., jax.stages.Lowered]:
    """Lowers the network in evaluation mode, for arguments with the sharding that it is given."""
    images = jax.ShapeDtypeStruct((batch_size, case.size, case.size, 1, case.channels), jnp.float32)

    def build():
        network = case.make(nnx.Rngs(0))
        network.eval()
        return nnx.split(network)

    def lower(place=None):
        graph, shapes = nnx.eval_shape(build)
        forward = jax.jit(lambda variables, images: nnx.merge(graph, variables, copy=True)(images))
        return forward.lower(*placed((shapes, images), place))

    return lower


def placed(shapes: Any, sharding: jax.sharding.Sharding | None) -> Any:
    """Shapes of arrays with this sharding."""
    if sharding is None:
        return shapes
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes)


def evaluated(config: ModelConfig) -> nnx.Module:
    """The network in evaluation mode, freshly initialised."""
    network = make_network(config, 10, 0)
    network.eval()
    return network
