"""The separable paper's layers and its network, in its own coordinates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilation import optimised
from flax import nnx
from helpers import assert_close
from lie_reference import lie_weights

from attgconv_jax.lie import lie_conv, rotations, scalings, similarities, siren
from attgconv_jax.models import LieResNet

GROUPS = {
    "SE24": rotations(4),
    "SE28": rotations(8),
    "R2xRplus3": scalings(3, 1.74),
    "Sim24x3": similarities(4, 3, 1.74),
}
KINDS = ["lifting", "nonseparable", "gseparable", "separable", "dseparable", "dgseparable"]
FILES = [(name, kind, kind) for name in ("SE24", "SE28", "R2xRplus3") for kind in KINDS]
FILES += [("Sim24x3", kind, "lifting") for kind in ("lifting", "lifting2d")]
FILES += [("Sim24x3", kind, kind) for kind in ("separable+2d", "gseparable+2d")]


def to_feature_map(array):
    """`[b, c, (h), x, y] -> [b, x, y, h, c]`."""
    array = jnp.asarray(array)
    array = array[:, :, None] if array.ndim == 4 else array
    return array.transpose(0, 3, 4, 2, 1)


@pytest.mark.parametrize("size", [5, 7])
@pytest.mark.parametrize(("name", "file", "kind"), FILES)
def test_outputs_and_gradients_are_the_papers(reference, name, file, kind, size):
    data, group = reference(f"lie/{name}_{file}_k{size}s1p1_9"), GROUPS[name]
    frequencies = dict(first_frequency=data.config["ck_net_first_omega_0"], frequency=data.config["ck_net_omega_0"])
    f = to_feature_map(data["input"])
    in_grid = None if kind == "lifting" else group.grid()

    def conv(f, weights):
        network = functools.partial(siren, **frequencies)
        options = dict(network=network, coordinates="paper")
        return lie_conv(f, weights, group, in_grid, group.grid(), size, None if in_grid is None else kind, **options)

    @jax.jit
    def output_and_gradients(f, weights, cotangent):
        output, vjp = jax.vjp(conv, f, weights)
        return output, vjp(cotangent)

    weights = lie_weights(data.under("state"), "", kind, f.shape[-1])
    output, gradients = output_and_gradients(f, weights, to_feature_map(data["cotangent"]))
    assert_close(output, to_feature_map(data["output32"]), 1e-5)
    gradient = data.under("grad32")
    expected = to_feature_map(gradient["input"]), lie_weights(gradient, "", kind, f.shape[-1])
    for actual, wanted in zip(jax.tree.leaves(gradients), jax.tree.leaves(expected), strict=True):
        assert_close(actual, wanted, 1e-5)


def load_network(network, state):
    """Puts the reference's arrays into our network, in whose order they stand."""

    def conv(module, prefix):
        weights = lie_weights(state, prefix, module.kind or "lifting", module.in_features)
        jax.tree.map(
            lambda variable, value: variable.set_value(value),
            module.weights,
            weights,
            is_leaf=lambda leaf: isinstance(leaf, nnx.Variable),
        )

    def norm(module, prefix):
        for name, variable in zip(
            ("weight", "bias", "running_mean", "running_var"),
            (module.scale, module.bias, module.mean, module.var),
            strict=True,
        ):
            variable.set_value(jnp.asarray(state[f"{prefix}.{name}"]))

    conv(network.lifting, "lifting.")
    norm(network.lifting_norm, "layers.0.bn")
    for block, outer, i in zip(network.blocks, network.block_norms, (2, 6), strict=True):
        conv(block.first.conv, f"layers.{i}.gconv_1.")
        norm(block.first_norm, f"layers.{i}.normalisation_1.bn")
        conv(block.second.conv, f"layers.{i}.gconv_2.")
        norm(block.second_norm, f"layers.{i}.normalisation_2.bn")
        if block.shortcut is not None:
            conv(block.shortcut, f"layers.{i}.skip_align.")
        norm(outer, f"layers.{i + 1}.bn")
    conv(network.last.conv, "layers.10.")
    norm(network.last_norm, "layers.11.bn")
    network.head.kernel.set_value(jnp.asarray(state["final_linear.0.weight"].T))
    norm(network.head_norm, "final_linear.1")
    network.logits.kernel.set_value(jnp.asarray(state["final_linear.4.weight"].T))
    network.logits.bias.set_value(jnp.asarray(state["final_linear.4.bias"]))


def use_unbiased_variances(network, batch):
    """PyTorch's running variance is of `n - 1` samples, Flax's of `n`; that of one step began at 1 with weight 0.9."""
    first, second = network.blocks
    samples = [(batch, [network.head_norm])]
    for size, norms in (
        (28, [network.lifting_norm, first.first_norm, first.second_norm, network.block_norms[0]]),
        (14, [second.first_norm, second.second_norm, network.block_norms[1]]),
        (5, [network.last_norm]),
    ):
        samples.append((batch * size**2 * network.group.order, norms))
    for n, norms in samples:
        for norm in norms:
            norm.var.set_value(0.9 + (norm.var[...] - 0.9) * n / (n - 1))


@pytest.mark.slow
def test_the_whole_network_is_the_papers(reference):
    data = reference("lie/ckgresnet_small_SE2_separable")
    network = LieResNet(
        rotations(8),
        features=(8, 8, 16),
        dropout_rate=0.0,
        network_options=dict(hidden_features=16),
        coordinates="paper",
        param_dtype=jnp.float64,
        rngs=nnx.Rngs(0),
    )
    load_network(network, data.under("state"))

    @optimised
    def logits_and_state(state):
        copy = nnx.merge(graphdef, state)
        return copy(to_feature_map(data["input"])), nnx.state(copy)

    graphdef, state = nnx.split(network)
    logits, state = logits_and_state(state)
    assert_close(logits, data["train32/logits"], 1e-4)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, data["labels"]).mean()
    np.testing.assert_allclose(loss, data["train32/loss"], rtol=1e-4)
    nnx.update(network, state)
    use_unbiased_variances(network, len(data["input"]))
    network.eval()
    graphdef, state = nnx.split(network)
    logits_in_evaluation = optimised(lambda state: nnx.merge(graphdef, state)(to_feature_map(data["input"])))
    assert_close(logits_in_evaluation(state), data["eval_after_bn32/logits"], 1e-4)
