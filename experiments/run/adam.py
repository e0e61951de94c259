"""Adam, as `optax.scale_by_adam` has it, in few kernels."""

import jax
import jax.numpy as jnp
import optax


def scale_by_adam(b1: float = 0.9, b2: float = 0.999, epsilon: float = 1e-8) -> optax.GradientTransformation:
    """`optax.scale_by_adam`, with its state and its numbers, for real gradients in the type of their parameters.

        m = b1 m + (1 - b1) d,   v = b2 v + (1 - b2) d^2
        update = m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon)

    Decays and bias corrections are one array: XLA:GPU then updates all parameters of one shape in one kernel, where
    with scalars it takes a kernel for every parameter.

    Source: Kingma and Ba 2015.
    """

    def update(gradients, state, params=None):
        count = optax.safe_increment(state.count)
        decays, others = jnp.array([b1, b2]), jnp.array([1 - b1, 1 - b2])
        # By the count: constants XLA would write into every kernel, and find nothing that they share.
        rates = jnp.where(count > 0, jnp.stack([decays, others, 1 - decays**count]), 1)

        def moved(i, gradient, moment, order):
            decay, other, _ = rates[:, i].astype(moment.dtype)
            return other * gradient**order + decay * moment

        m = jax.tree.map(lambda d, m: moved(0, d, m, 1), gradients, state.mu)
        v = jax.tree.map(lambda d, v: moved(1, d, v, 2), gradients, state.nu)

        def scaled(m, v):
            m_correction, v_correction = rates[2].astype(m.dtype)
            return m / m_correction / (jnp.sqrt(v / v_correction) + epsilon)

        return jax.tree.map(scaled, m, v), optax.ScaleByAdamState(count, m, v)

    return optax.GradientTransformation(optax.scale_by_adam(b1, b2, epsilon).init, update)
