"""Training as pure compiled functions: many steps a call, several seeds side by side, and the error on a split."""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Int

from attgconv_jax.nn.norm import RunningVariance, set_running_variance
from experiments.augmentation import AugmentConfig, Mixture, augment
from experiments.run.accumulation import accumulated
from experiments.run.average import averaged, is_floating
from experiments.run.evaluation import in_batches
from experiments.run.head import head_of, split_head, train_head
from experiments.run.mesh import AXIS, device_count, spread, taken
from experiments.run.model_configuration import ModelConfig

# A stream of its own: Flax counts its streams up from 0 and never gets here.
_SHUFFLING = 2**32 - 1
# Of the shuffling's key, which epochs divide, counted up from 0.
_AUGMENTING = 2**32 - 1


class TrainState(NamedTuple):
    """What a step reads and writes: a pytree, with the network split into arrays."""

    params: Any
    rest: Any
    """The network's other variables: running statistics, and the keys and counts of dropout and random grids."""
    opt_state: Any
    key: jax.Array
    """Of shuffling and augmentation; never changes."""
    step: jax.Array
    """Steps taken, which is the position in the data as well."""
    loss: jax.Array
    """Sum of this epoch's losses."""
    wrong: jax.Array
    """Images of this epoch misclassified, in training mode."""
    first_bad_step: jax.Array
    """The first step, from 1, whose loss, parameters or statistics were not finite; 0: there was none."""
    average: Any = ()
    """Of `params` and `rest` over the steps; empty where none is wanted."""


def make_network(config: ModelConfig, classes: int, seed: int, in_features: int = 1) -> nnx.Module:
    """The network of a configuration, freshly initialised, in training mode; float64 needs x64."""
    return config.build(in_features, classes, nnx.Rngs(jax.random.key(seed)))


class Trainer:
    """Trains networks of one description, a network a seed.

    `state = trainer.init(seeds)`, then `state = trainer.train(state, images, labels, count)` for as many steps as one
    compiled call shall take. How the steps are cut into calls changes nothing. Every array of a state has a leading
    axis of seeds, over which "vmap" and "loop" have the same numbers up to rounding.

    Args:
      config: of the network.
      classes: how many there are.
      optimizer: see `experiments.run.optimizer.make_optimizer`.
      batch_size: images a step.
      seeds_mode: whether seeds are trained one after the other or side by side.
      in_features: channels of the images.
      augmentation: how images are changed at random, see `experiments.augmentation`; None: not at all.
      class_weights: factors of the classes' losses; None: all are one.
      freeze: "none"; or "body", with which the optimiser has the parameters of the head alone (see
        `experiments.run.head`): no gradient, decay or clipping reaches the others. The body is in evaluation mode, so
        that its statistics stand still as well, and what the head is trained on is what it is evaluated on.
      background: what augmentation brings into view from outside an image, a number or one per channel.
      running_variance: what batch norms keep; see `attgconv_jax.nn.norm.BatchNorm`.
      accumulate: parts of a batch, one after the other, whose gradients are added up: those of the whole batch, but
        that batch norms have the statistics of a part each, and dropout draws a mask for each.
      gradient_checkpointing: see `attgconv_jax.models.Network`.
      ema_decay: of the average network, see `evaluated`; None: there is none. The decay of step t, counted from 0, is
        at most (1 + t) / (10 + t), so that an average over few steps forgets where it began.
    """

    def __init__(
        self,
        config: ModelConfig,
        classes: int,
        optimizer: optax.GradientTransformation,
        batch_size: int,
        seeds_mode: Literal["vmap", "loop"] = "loop",
        in_features: int = 1,
        augmentation: AugmentConfig | None = None,
        class_weights: Sequence[float] | np.ndarray | None = None,
        freeze: str = "none",
        background: Float[np.ndarray, "*c"] | float = 0.0,
        running_variance: RunningVariance = "biased",
        accumulate: int = 1,
        gradient_checkpointing: bool = False,
        ema_decay: float | None = None,
    ):
        self.accumulate = accumulate
        self.ema_decay = ema_decay
        self.augmentation = AugmentConfig() if augmentation is None else augmentation
        self.class_weights = class_weights
        self.background = background
        self._make = functools.partial(make_network, config, classes, in_features=in_features)
        self.optimizer = optimizer
        self.batch_size = batch_size
        self.mode = seeds_mode
        self._over_seeds = {"vmap": jax.vmap, "loop": lambda function: functools.partial(lax.map, function)}[seeds_mode]
        self._head = head_of(config, classes, in_features) if freeze == "body" else None
        network = nnx.eval_shape(lambda: self._make(0))
        set_running_variance(network, running_variance)
        if self._head is None:
            network.train()
        else:
            train_head(network, self._head)
        if gradient_checkpointing:
            network.gradient_checkpointing = True
        self.graph = nnx.split(network, nnx.Param, ...)[0]
        if gradient_checkpointing:
            del network.gradient_checkpointing
        network.eval()
        self.evaluation_graph = nnx.split(network, nnx.Param, ...)[0]

    def init(self, seeds: tuple[int, ...]) -> TrainState:
        """The first state, whose seeds lie along the leading axis."""
        states = [self._init(jnp.uint32(seed)) for seed in seeds]
        return self.averaging(jax.tree.map(lambda *leaves: jnp.stack(leaves), *states))

    def averaging(self, state: TrainState) -> TrainState:
        """The state whose average, if one is wanted, begins with what it is."""
        if self.ema_decay is None:
            return state
        return state._replace(average=jax.tree.map(jnp.copy, (state.params, state.rest)))

    def evaluated(self, state: TrainState) -> tuple[Any, Any]:
        """The parameters and other variables that are evaluated and kept: the averages, if there are any."""
        return state.average or (state.params, state.rest)

    @functools.partial(jax.jit, static_argnums=0)
    def _init(self, seed):
        network = self._make(seed)
        network.train()
        _, params, rest = nnx.split(network, nnx.Param, ...)
        key = jax.random.fold_in(jax.random.key(seed), _SHUFFLING)
        zero = jnp.zeros([], jnp.int32)
        loss = jnp.zeros([], jax.tree.leaves(params)[0].dtype)
        return TrainState(params, rest, self.optimizer.init(self._parts(params)[0]), key, zero, loss, zero, zero)

    def _parts(self, params):
        """The parameters that are trained, and those that are frozen."""
        return (params, nnx.State({})) if self._head is None else split_head(params, self._head)

    def network(self, params: Any, rest: Any, index: int) -> nnx.Module:
        """The network of one seed, by its place among them, in evaluation mode."""
        return nnx.merge(self.evaluation_graph, *jax.tree.map(lambda leaf: leaf[index], (params, rest)), copy=True)

    def loss(self, params, rest, images, labels, mixture: Mixture | None = None):
        """Mean cross-entropy in training mode of one network; what its other variables become, and its errors.

        The classes' weights are factors. Of mixed images it is that of both labels, in the shares of the images, and an
        error is whatever is not the label of the larger share.
        """
        network = nnx.merge(self.graph, params, rest, copy=True)
        logits = network(images)
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        losses = self._cross_entropy(logits, labels)
        if mixture is not None:
            losses = mixture.share * losses + (1 - mixture.share) * self._cross_entropy(logits, mixture.labels)
        loss = jnp.mean(losses)
        wrong = jnp.sum(jnp.argmax(logits, axis=-1) != labels, dtype=jnp.int32)
        return loss, (nnx.split(network, nnx.Param, ...)[2], wrong)

    def _cross_entropy(self, logits, labels):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        if self.class_weights is None:
            return losses
        return taken(jnp.asarray(self.class_weights, logits.dtype), labels) * losses

    def step(
        self, state: TrainState, images: jax.Array, labels: jax.Array, mixture: Mixture | None = None
    ) -> TrainState:
        """One step of the optimiser of one network on one batch, whose images are changed already."""
        trained, frozen = self._parts(state.params)

        def loss_of(trained, rest, images, labels, mixture):
            return self.loss(nnx.merge_state(trained, frozen), rest, images, labels, mixture)

        batch = images, labels, mixture
        (loss, rest, wrong), grads = accumulated(loss_of, trained, state.rest, batch, self.accumulate)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, trained)
        params = nnx.merge_state(optax.apply_updates(trained, updates), frozen)
        finite = jnp.isfinite(loss) & _all_finite((params, rest))
        counts = state.step + 1, state.loss + loss.astype(state.loss.dtype), state.wrong + wrong
        first_bad_step = jnp.where(finite | (state.first_bad_step > 0), state.first_bad_step, state.step + 1)
        average = state.average and averaged(state.average, (params, rest), self.ema_decay, state.step)
        return TrainState(params, rest, opt_state, state.key, *counts, first_bad_step, average)

    def augmented(self, state: TrainState, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, Mixture | None]:
        """The batch of one network's next step, changed at random as that step is to see it."""
        key = jax.random.fold_in(jax.random.fold_in(state.key, _AUGMENTING), state.step)

        def changed(key, images, labels):
            return augment(key, images, labels, self.augmentation, self.background)

        # Where devices share the images, XLA divides this work: what it gathers is of each image alone.
        return (changed if device_count() == 1 else jax.sharding.auto_axes(changed, out_sharding=jax.P(AXIS)))(
            key, images, labels
        )

    @functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
    def train(
        self, state: TrainState, images: Float[Array, "image x y 1 c"], labels: Int[Array, " image"], count: int
    ) -> TrainState:
        """`count` steps of every network on the training split, within one epoch; `state` is used up.

        The order of the images depends on seed and epoch, their augmentation on seed and step.
        """
        steps_per_epoch = len(labels) // self.batch_size

        def train_one(state):
            epoch, position = state.step // steps_per_epoch, state.step % steps_per_epoch
            order = jax.random.permutation(jax.random.fold_in(state.key, epoch), len(labels))
            state = _counted_anew(state, position == 0)

            def step(i, state):
                batch = spread(lax.dynamic_slice(order, [(position + i) * self.batch_size], [self.batch_size]))
                chosen, known = taken(images, batch), taken(labels, batch)
                changed, mixture = self.augmented(state, chosen, known)
                return self.step(state, changed, known, mixture)

            return lax.fori_loop(0, count, step, state)

        return self._over_seeds(train_one)(state)

    @functools.partial(jax.jit, static_argnums=(0, 4), donate_argnums=1)
    def train_batch(
        self,
        state: TrainState,
        images: Float[Array, "seed image x y 1 c"],
        labels: Int[Array, "seed image"],
        steps_per_epoch: int,
    ) -> TrainState:
        """One step of every network on a batch of its own, which is changed at random here; `state` is used up."""

        def train_one(arguments):
            state, images, labels = arguments
            state = _counted_anew(state, state.step % steps_per_epoch == 0)
            changed, mixture = self.augmented(state, images, labels)
            return self.step(state, changed, labels, mixture)

        return self._over_seeds(train_one)((state, images, labels))

    @functools.partial(jax.jit, static_argnums=0)
    def count_errors(
        self, params: Any, rest: Any, images: Float[Array, "image x y 1 c"], labels: Int[Array, " image"]
    ) -> tuple[Int[Array, " seed"], Int[Array, " seed"]]:
        """How many images each seed's network misclassifies in evaluation mode, and how many have no finite logits.

        The latter are among the former.
        """
        batches = in_batches(images), in_batches(labels, filling=-1)

        def count(variables):
            def count_batch(batch):
                images, labels = spread(batch)
                logits = nnx.merge(self.evaluation_graph, *variables, copy=True)(images)
                bad = ~jnp.all(jnp.isfinite(logits), axis=-1)
                wrong = bad | (jnp.argmax(logits, axis=-1) != labels)
                return tuple(jnp.sum(x & (labels >= 0), dtype=jnp.int32) for x in (wrong, bad))

            return jax.tree.map(lambda counts: jnp.sum(counts, dtype=jnp.int32), lax.map(count_batch, batches))

        return self._over_seeds(count)((params, rest))


def _counted_anew(state, begins):
    """The state, at the beginning of an epoch without the last one's loss and errors."""
    return state._replace(loss=jnp.where(begins, 0, state.loss), wrong=jnp.where(begins, 0, state.wrong))


def _all_finite(tree):
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree) if is_floating(leaf)]))
