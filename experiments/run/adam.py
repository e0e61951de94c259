"""Adam, as `optax.scale_by_adam` has it, in few kernels."""

import jax
import jax.numpy as jnp
import optax


def scale_by_adam(b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8) -> optax.GradientTransformation:
    """`optax.scale_by_adam`, with its state and its numbers.

        m = b1 m + (1 - b1) d,   v = b2 v + (1 - b2) d^2
        update = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon)

    Both bias corrections are one array: XLA:GPU then updates all parameters of one shape in one kernel, where with a
    scalar for each it takes a kernel for every parameter.

    Source: Kingma and Ba 2015.
    """

    def update(gradients, state, params=None):
        count = optax.safe_increment(state.count)
        m = jax.tree.map(lambda d, m: (1 - b1) * d + b1 * m, gradients, state.mu)
        v = jax.tree.map(lambda d, v: (1 - b2) * d**2 + b2 * v, gradients, state.nu)
        corrections = 1 - jnp.array([b1, b2]) ** count

        def scaled(m, v):
            m_correction, v_correction = corrections.astype(m.dtype)
            return m / m_correction / (jnp.sqrt(v / v_correction) + epsilon)

        return jax.tree.map(scaled, m, v), optax.ScaleByAdamState(count, m, v)

    return optax.GradientTransformation(optax.scale_by_adam(b1, b2, epsilon).init, update)
