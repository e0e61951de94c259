"""How much memory a training step takes: as XLA plans it, and as the process grows when it runs."""

import gc
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from attgconv_jax import cyclic, dihedral
from attgconv_jax.models import AllCNN, RotMNISTNet


class Case(NamedTuple):
    """A network, its images and how it is trained."""

    make: Callable[..., nnx.Module]
    size: int
    channels: int
    optimizer: optax.GradientTransformation


def _rot_mnist(group, attention):
    return Case(lambda rngs: RotMNISTNet(group, attention, rngs=rngs), 28, 1, optax.adam(1e-3))


def _cifar(group, attention):
    return Case(lambda rngs: AllCNN(group, attention, rngs=rngs), 32, 3, optax.sgd(0.05, momentum=0.9))


CASES = {
    "p4": _rot_mnist(cyclic(4), None),
    "alpha_F-p4": _rot_mnist(cyclic(4), "input"),
    "alpha_CH-p4": _rot_mnist(cyclic(4), "response_channel"),
    "alpha_SP-p4": _rot_mnist(cyclic(4), "response_spatial"),
    "alpha-p4": _rot_mnist(cyclic(4), "response"),
    "alpha-p4m": _rot_mnist(dihedral(4), "response"),
    "All-CNN p4": _cifar(cyclic(4), None),
    "All-CNN alpha_F-p4": _cifar(cyclic(4), "input"),
    "All-CNN alpha-p4": _cifar(cyclic(4), "response"),
    "All-CNN p4m": _cifar(dihedral(4), None),
    "All-CNN alpha_F-p4m": _cifar(dihedral(4), "input"),
    "All-CNN alpha-p4m": _cifar(dihedral(4), "response"),
}


class Step(NamedTuple):
    """A compiled training step, `state = step.call(*state, *arrays)`, which uses up the state."""

    call: jax.stages.Compiled
    make_state: Callable[[], tuple]
    make_arrays: Callable[[], tuple]

    @property
    def planned_mb(self) -> float:
        """Temporary arrays, arguments and results as XLA's memory analysis has them, in megabytes."""
        plan = self.call.memory_analysis()
        planned = plan.temp_size_in_bytes + plan.argument_size_in_bytes + plan.output_size_in_bytes
        return (planned - plan.alias_size_in_bytes) / 1e6


def compile_step(case: Case, batch_size: int) -> Step:
    """The training step of a network on random images.

    Args:
      case: the network.
      batch_size: images a step.

    Returns:
      The step, compiled, and what makes its first state and its images.
    """

    def build():
        network = case.make(nnx.Rngs(0))
        graph, params, rest = nnx.split(network, nnx.Param, ...)
        return graph, params, rest, case.optimizer.init(params)

    graph, *shapes = nnx.eval_shape(build)
    images = jax.ShapeDtypeStruct((batch_size, case.size, case.size, 1, case.channels), jnp.float32)
    labels = jax.ShapeDtypeStruct((batch_size,), jnp.int32)

    def step(params, rest, opt_state, images, labels):
        def loss(params):
            network = nnx.merge(graph, params, rest, copy=True)
            losses = optax.softmax_cross_entropy_with_integer_labels(network(images), labels)
            return jnp.mean(losses), nnx.state(network, nnx.Not(nnx.Param))

        gradients, rest_after = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = case.optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), rest_after, opt_state

    def make_arrays():
        generator = jax.random.key(0)
        pictures = jax.random.normal(generator, images.shape, images.dtype)
        return pictures, jax.random.randint(generator, labels.shape, 0, 10, labels.dtype)

    compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*shapes, images, labels).compile()
    return Step(compiled, jax.jit(lambda: build()[1:]), make_arrays)


def step_memory(case: Case, batch_size: int, *, run: bool = True) -> dict[str, float | None]:
    """Memory of one training step, in megabytes.

    Args:
      case: the network.
      batch_size: images a step.
      run: whether to run the step too; else only XLA's plan is read.

    Returns:
      `planned_mb`, see `Step`; `resident_mb`, arguments and what the process grew by at most while the step ran, where
      the system tells (Linux) and the device is the CPU; `step_s`, the time of that one step. None for what was not
      measured.
    """
    step = compile_step(case, batch_size)
    figures = {"planned_mb": step.planned_mb, "resident_mb": None, "step_s": None}
    if not run:
        return figures
    state, arrays = step.make_state(), step.make_arrays()
    jax.block_until_ready((state, arrays))
    gc.collect()
    before = _forget_peak()
    started = time.perf_counter()
    jax.block_until_ready(step.call(*state, *arrays))
    figures["step_s"] = time.perf_counter() - started
    if before is not None and jax.default_backend() == "cpu":
        argument_bytes = step.call.memory_analysis().argument_size_in_bytes
        figures["resident_mb"] = (_status("VmHWM") - before + argument_bytes) / 1e6
    return figures


def _forget_peak():
    """The process' resident bytes now; its peak is counted from here on. None where the system has no such thing."""
    try:
        # Linux: proc(5), clear_refs: 5 resets the peak resident size.
        pathlib.Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return None


def _status(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))
