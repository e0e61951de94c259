"""What batch norms keep and what they refuse, and the norms that operators may have in their place.

`fixtures/running_variance.npz` was written by `fixtures/running_variance.py.txt`.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilation import optimised
from flax import nnx
from helpers import assert_close, assert_refused, random
from networks import random_network, with_random_arrays
from small_sets import random_images

from attgconv_jax import OPERATORS, cyclic, dihedral, equivariance_error, trivial
from attgconv_jax.interop import load_reference
from attgconv_jax.lie import scalings, similarities
from attgconv_jax.models import ResNet, RotMNISTNet, load_network, save_network
from attgconv_jax.nn import ATTENTIONS, LieAttention, SelectiveKernelGroupConv
from attgconv_jax.nn.norm import BatchNorm, GroupNorm, batch_norm, batch_norms, set_running_variance
from experiments.data import Dataset, Split
from experiments.run.configuration import Config, OptimizerConfig
from experiments.run.loop import make_trainer
from experiments.run.model_configuration import model

FIXTURE = pathlib.Path(__file__).parent / "fixtures/running_variance.npz"
NORMED = [name for name, operator in OPERATORS.items() if operator.norms]
ADVICE = 'take larger batches, {0}="layer" or {0}="group"'
SINGLE = "batch norm in training takes 2 numbers a channel at least, got one, x of shape "


def after_steps(norm, batches, **options):
    """The running statistics after training calls."""
    graph, state = nnx.split(norm)

    @jax.jit
    def step(state, x):
        norm = nnx.merge(graph, state, copy=True)
        norm(x, **options)
        return nnx.state(norm)

    for x in batches:
        state = step(state, x)
    return np.asarray(state["mean"][...]), np.asarray(state["var"][...])


def kept(batches, correct):
    """Running statistics of arrays `[numbers, channels]`, by loops."""
    means, variances = np.zeros(batches[0].shape[1]), np.ones(batches[0].shape[1])
    for x in batches:
        for channel, column in enumerate(x.T):
            numbers = [float(number) for number in column if not np.isnan(number)]
            mean = sum(numbers) / len(numbers)
            squares = sum((number - mean) ** 2 for number in numbers)
            means[channel] = 0.9 * means[channel] + 0.1 * mean
            variances[channel] = 0.9 * variances[channel] + 0.1 * squares / (len(numbers) - correct)
    return means, variances


@pytest.mark.parametrize(("kind", "correct"), [("biased", 0), ("unbiased", 1)])
def test_running_statistics_keep_the_variance_that_is_named(kind, correct):
    batches = [np.asarray(3 + 2 * random(2, 3, 1, 4, seed=seed)) for seed in range(3)]
    wanted = kept([x.reshape(-1, 4) for x in batches], correct)
    norm = batch_norm(4, None, jnp.float64, nnx.Rngs(0))
    assert norm.running_variance == "biased"
    norm.keep_running_variance(kind)
    for got, statistic in zip(after_steps(norm, batches), wanted, strict=True):
        assert_close(got, statistic)
    # What is left to Flax: here without a bias, with a mask, across a named axis.
    norm.bias = nnx.data(None)
    for got, statistic in zip(after_steps(norm, batches), wanted, strict=True):
        assert_close(got, statistic)
    mask = np.arange(24).reshape(2, 3, 1, 4) % 5 > 0
    wanted = kept([np.where(mask, x, np.nan).reshape(-1, 4) for x in batches], correct)
    for got, statistic in zip(after_steps(norm, batches, mask=jnp.asarray(mask)), wanted, strict=True):
        assert_close(got, statistic)


@pytest.mark.parametrize(("kind", "correct"), [("biased", 0), ("unbiased", 1)])
def test_statistics_across_devices_are_of_all_their_numbers(kind, correct):
    graph, state = nnx.split(BatchNorm(2, momentum=0.9, axis_name="device", running_variance=kind, rngs=nnx.Rngs(0)))

    def of_device(x):
        norm = nnx.merge(graph, state, copy=True)
        norm(x)
        return norm.var[...]

    x = random(4, 1, 2).astype(jnp.float32)
    wanted = kept([np.asarray(x[:, 0], np.float64)], correct)[1]
    for variance in jax.jit(jax.vmap(of_device, axis_name="device"))(x):
        assert_close(variance, wanted, 1e-5)


def test_the_variance_that_is_kept_is_part_of_the_structure_only_where_it_is_another():
    plain = nnx.graphdef(BatchNorm(3, rngs=nnx.Rngs(0)))
    norm = BatchNorm(3, running_variance="unbiased", rngs=nnx.Rngs(0))
    assert nnx.graphdef(norm) != plain and "running_variance" in vars(norm)
    norm.keep_running_variance("biased")
    assert nnx.graphdef(norm) == plain and "running_variance" not in vars(norm)
    with assert_refused('running_variance must be one of "biased", "unbiased", got \'n\''):
        norm.keep_running_variance("n")


def draws():
    """What `fixtures/running_variance.py.txt` draws: images, labels, and the first weights as a state."""
    generator = np.random.RandomState(0)
    images, labels = generator.standard_normal((21, 4, 1, 28, 28)), generator.randint(10, size=(20, 4))
    state = {}
    for i in range(1, 8):
        shape = (10, 20, 4, 4) if i == 7 else (20, 1 if i == 1 else 20, 3, 3)
        state[f"c{i}.weight"] = generator.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        if i < 7:
            arrays = {"weight": np.ones(20), "bias": np.zeros(20)}
            arrays |= {"running_mean": np.zeros(20), "running_var": np.ones(20)}
            state |= {f"bn{i}.{name}": array for name, array in arrays.items()}
    return images.transpose(0, 1, 3, 4, 2)[..., None, :], labels, state


def trained(running_variance):
    """The network of the fixture after its training, in evaluation mode, and the last loss."""
    images, labels, state = draws()
    network = load_reference(state, "z2cnn", running_variance=running_variance)
    network.train()
    for dropout in network.dropouts:
        dropout.rate = 0.0
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    optimizer = optax.sgd(0.05, momentum=0.9)

    def loss_of(params, rest, image, label):
        network = nnx.merge(graph, params, rest, copy=True)
        losses = optax.softmax_cross_entropy_with_integer_labels(network(image), label)
        return jnp.mean(losses), nnx.split(network, nnx.Param, ...)[2]

    @optimised
    def step(params, rest, opt_state, image, label):
        (loss, rest), slope = jax.value_and_grad(loss_of, has_aux=True)(params, rest, image, label)
        updates, opt_state = optimizer.update(slope, opt_state, params)
        return optax.apply_updates(params, updates), rest, opt_state, loss

    opt_state = optimizer.init(params)
    for image, label in zip(images[:20], labels, strict=True):
        params, rest, opt_state, loss = step(params, rest, opt_state, image, label)
    network = nnx.merge(graph, params, rest)
    network.eval()
    return network, loss, jnp.asarray(images[20])


def test_after_the_same_training_a_network_evaluates_as_that_of_pytorch():
    with np.load(FIXTURE) as file:
        expected = dict(file)
    network, loss, image = trained("unbiased")
    assert_close(loss, expected["loss"], 1e-10)
    assert_close(np.stack([norm.var[...] for norm in network.norms]), expected["variances"], 1e-10)
    graph, state = nnx.split(network)
    evaluate = optimised(lambda state: nnx.merge(graph, state)(image))
    assert_close(evaluate(state), expected["logits"], 1e-10)
    # What Flax keeps of the same training: it evaluates to other logits.
    for norm, size in zip(network.norms, (26, 24, 10, 8, 6, 4), strict=True):
        first, count = 0.9**20, 4 * size**2
        norm.var.set_value(first + (norm.var[...] - first) * (count - 1) / count)
    difference = np.abs(evaluate(nnx.state(network)) - expected["logits"])
    assert difference.max() > 1e-3


def test_a_network_is_saved_with_the_variance_that_it_keeps(tmp_path):
    network = random_network(cyclic(4), "srm", features=2)
    assert network.running_variance == "biased" and "running_variance" not in network.settings
    graph = nnx.graphdef(network)
    set_running_variance(network, "unbiased")
    assert {norm.running_variance for norm in batch_norms(network)} == {"unbiased"}
    assert len(batch_norms(network)) == 6 + 6
    save_network(tmp_path / "network", network)
    back = load_network(tmp_path / "network")
    assert back.settings["running_variance"] == "unbiased" and nnx.graphdef(back) == nnx.graphdef(network) != graph
    network.norms[0].keep_running_variance("biased")
    assert "running_variance" not in network.settings
    with assert_refused("running_variance must be the same in all batch norms, got biased and unbiased"):
        _ = network.running_variance
    with assert_refused("the settings of this RotMNISTNet no longer describe it", "running_variance"):
        save_network(tmp_path / "other", network)
    set_running_variance(network, "biased")
    assert nnx.graphdef(network) == graph


def test_arrays_alone_come_back_to_a_module_that_keeps_the_same_variance(tmp_path):
    norm = batch_norm(2, None, jnp.float32, nnx.Rngs(0))
    save_network(tmp_path / "biased", norm)
    other = batch_norm(2, None, jnp.float32, nnx.Rngs(0))
    other.keep_running_variance("unbiased")
    save_network(tmp_path / "unbiased", other)
    assert load_network(tmp_path / "unbiased", like=other).running_variance == "unbiased"
    for name, like in (("biased", other), ("unbiased", norm)):
        with assert_refused("like must be the network", "running_variance"):
            load_network(tmp_path / name, like=like)


def call(module, *shape):
    """The shape of what a module makes of an array of this shape; nothing is computed."""
    return nnx.eval_shape(lambda module, f: module(f), module, jax.ShapeDtypeStruct(shape, jnp.float32)).shape


@pytest.mark.parametrize("shape", [(1, 3), (3,), (1, 1, 1, 3)], ids=str)
def test_one_number_a_channel_is_refused_in_training(shape):
    norm = batch_norm(3, None, jnp.float32, nnx.Rngs(0))
    advice = "take larger batches; where nothing is to be trained, call eval() first"
    with assert_refused(f"{SINGLE}{shape}: {advice}"):
        norm(jnp.ones(shape, jnp.float32))
    for other in ((2, 3), (1, 2, 1, 3), (0, 3)):
        assert call(norm, *other) == other
    norm.eval()
    assert norm(jnp.ones(shape, jnp.float32)).shape == shape
    norm = BatchNorm(3, axis=0, use_bias=False, rngs=nnx.Rngs(0))
    with assert_refused(SINGLE):
        norm(jnp.ones((3, 1), jnp.float32))


@pytest.mark.parametrize("kind", ["biased", "unbiased"])
def test_statistics_of_fewer_than_two_numbers_stay_as_they_are(kind):
    norm = batch_norm(3, None, jnp.float64, nnx.Rngs(0))
    norm.keep_running_variance(kind)
    norm.mean[...], norm.var[...] = jnp.asarray([1.0, 2.0, 3.0]), jnp.asarray([4.0, 5.0, 6.0])

    def kept_after(shape, mask=None):
        norm(random(*shape), mask=mask)
        return np.stack([norm.mean[...], norm.var[...]])

    before = np.asarray([[1, 2, 3], [4, 5, 6]], float)
    np.testing.assert_array_equal(kept_after((0, 5, 3)), before)
    # No number of the first channel, one of the second, two of the third.
    mask = jnp.asarray([[False, True, True], [False, False, True]])
    after = kept_after((2, 3), mask)
    np.testing.assert_array_equal(after[:, :2], before[:, :2])
    x = np.asarray(random(2, 3))[:, 2]
    wanted = 0.9 * before[:, 2] + 0.1 * np.asarray([x.mean(), x.var(ddof=kind == "unbiased")])
    assert_close(after[:, 2], wanted)
    norm.bias = nnx.data(None)
    np.testing.assert_array_equal(kept_after((0, 5, 3)), after)


def test_images_mapped_over_without_a_name_are_single_ones():
    norm = batch_norm(3, None, jnp.float32, nnx.Rngs(0))
    with assert_refused(SINGLE):
        jax.vmap(norm)(jnp.ones((5, 3), jnp.float32))


def test_a_symbolic_batch_in_training_counts_as_more_than_one_image():
    norm = batch_norm(4, None, jnp.float64, nnx.Rngs(0))
    norm.keep_running_variance("unbiased")
    graph, state = nnx.split(norm)

    def variance(x):
        norm = nnx.merge(graph, state, copy=True)
        norm(x)
        return norm.var[...]

    (batch,) = jax.export.symbolic_shape("b")
    exported = jax.export.export(jax.jit(variance))(jax.ShapeDtypeStruct((batch, 1, 4), jnp.float64))
    assert_close(exported.call(random(5, 1, 4)), variance(random(5, 1, 4)))
    np.testing.assert_array_equal(exported.call(random(1, 1, 4)), np.ones(4))


def normed(name, group, **options):
    """A module of an operator that has norms, in training mode, with as many hidden channels as channels."""
    if name != "srm":
        options["reduction"] = 1
    if name == "sk":
        return SelectiveKernelGroupConv(3, 4, 3, group, padding=1, rngs=nnx.Rngs(0), **options)
    return ATTENTIONS[name](4, group, rngs=nnx.Rngs(0), **options)


def of_norms(name, kind):
    return dict.fromkeys(OPERATORS[name].norms, kind)


def features_of(name):
    return 3 if name == "sk" else 4


@pytest.mark.parametrize(
    ("name", "norm"), [("bam", "channel_norm"), ("bam", "hidden_norms"), ("sk", "norm"), ("srm", "norm")]
)
def test_an_operator_with_statistics_of_one_number_says_what_to_do(name, norm):
    c, options = features_of(name), {norm: "batch"}
    with assert_refused(SINGLE, ADVICE.format(norm)) as refused:
        call(normed(name, trivial(), **options), 1, 5, 5, 1, c)
    assert "over_group" not in str(refused.value)
    p4 = normed(name, cyclic(4), **options)
    call(p4, 1, 5, 5, 4, c)
    # Over the group there is one number again.
    over = normed(name, cyclic(4), over_group=True, **options)
    with assert_refused(SINGLE, ADVICE.format(norm), "leave out over_group, which leaves one number"):
        call(over, 1, 5, 5, 4, c)
    for module in (normed(name, trivial(), **options), over):
        order = module.group.order
        call(module, 2, 5, 5, order, c)
        module.eval()
        call(module, 1, 5, 5, order, c)


@pytest.mark.parametrize("kind", ["layer", "group"])
@pytest.mark.parametrize(("name", "norm"), [("bam", "hidden_norms"), ("sk", "norm")])
def test_a_norm_of_one_hidden_channel_is_refused_when_made_and_no_advice_leads_there(name, norm, kind):
    make = SelectiveKernelGroupConv if name == "sk" else ATTENTIONS[name]
    sizes = (4, 4, 3, trivial()) if name == "sk" else (4, trivial())
    larger = f'take larger hidden_features or {norm}="batch"'
    with assert_refused(f'{norm} must have 2 numbers an image at least, got "{kind}" of one position', larger):
        make(*sizes, rngs=nnx.Rngs(0), **{norm: kind})
    # Of one channel neither has more.
    single = make(*sizes, rngs=nnx.Rngs(0), **{norm: "batch"})
    with assert_refused(SINGLE, f'take larger batches, or larger hidden_features and {norm}="layer"; where nothing'):
        call(single, 1, 5, 5, 1, 4)


def test_kinds_of_norms_are_named_where_they_have_two_numbers():
    def srm(c, group, **options):
        return ATTENTIONS["srm"](c, group, rngs=nnx.Rngs(0), **options)

    with assert_refused('groups of one of 17 channels: take norm="layer" or norm="batch"'):
        srm(17, trivial(), norm="group")
    with assert_refused('one channel: take larger features or norm="batch"'):
        srm(1, trivial(), norm="layer")
    with assert_refused("one channel", "or leave out over_group, which leaves one number of all group elements"):
        srm(1, cyclic(4), norm="layer", over_group=True)
    with assert_refused("one channel"):
        srm(1, cyclic(4), norm="layer", lifting=True)
    with assert_refused(SINGLE, 'take larger batches, norm="layer"; where nothing'):
        call(srm(17, trivial()), 1, 5, 5, 1, 17)
    assert call(srm(1, cyclic(4), norm="layer"), 1, 5, 5, 4, 1) == (1, 5, 5, 4, 1)
    # A spatial norm has as many numbers as the map has pixels.
    cbam = ATTENTIONS["cbam"](4, trivial(), spatial_norm="batch", rngs=nnx.Rngs(0))
    with assert_refused(SINGLE, "take larger batches, or larger maps; where nothing"):
        call(cbam, 1, 1, 1, 1, 4)
    assert call(cbam, 1, 2, 1, 1, 4) == (1, 2, 1, 1, 4)


@pytest.mark.parametrize("name", ["cbam", "coordinate", "non_local"])
def test_positions_rows_and_columns_are_more_than_one_number(name):
    assert call(normed(name, trivial(), **of_norms(name, "batch")), 1, 5, 5, 1, 4) == (1, 5, 5, 1, 4)


@pytest.mark.parametrize("kind", ["layer", "group", None, nnx.LayerNorm])
@pytest.mark.parametrize("name", NORMED)
def test_single_images_train_with_other_norms_as_they_are_evaluated(name, kind):
    module = normed(name, trivial(), **of_norms(name, kind))
    f = random(3, 4, 4, 1, features_of(name)).astype(jnp.float32)
    if name == "sk":
        module.conv_norms.eval()
    graph, state = nnx.split(module)
    module.eval()
    evaluated, _ = nnx.split(module)

    @functools.partial(jax.jit, static_argnums=0)
    def run(graph, f):
        return nnx.merge(graph, state, copy=True)(f)

    together = run(evaluated, f)
    np.testing.assert_allclose(run(graph, f[:1]), together[:1], atol=1e-5)
    np.testing.assert_allclose(run(graph, f[0]), together[0], atol=1e-5)


def group_norm_by_loops(x, groups, batch_axes, scale, bias, epsilon=1e-5):
    x = np.asarray(x, np.float64)
    images = x.reshape(int(np.prod(x.shape[:batch_axes])), -1, x.shape[-1])
    out, size = np.empty_like(images), x.shape[-1] // groups
    for n, image in enumerate(images):
        for g in range(groups):
            part = [float(v) for row in image for v in row[g * size : (g + 1) * size]]
            mean = sum(part) / len(part)
            variance = sum((v - mean) ** 2 for v in part) / len(part)
            for c in range(g * size, (g + 1) * size):
                out[n, :, c] = scale[c] * (image[:, c] - mean) / np.sqrt(variance + epsilon) + bias[c]
    return out.reshape(x.shape)


@pytest.mark.parametrize(
    ("shape", "batch_axes", "groups"), [((3, 4, 6), 1, 2), ((2, 2, 5, 5, 3, 4), 2, 1), ((4, 6), 0, 3)]
)
def test_group_norm_is_of_every_image_by_itself(shape, batch_axes, groups):
    norm = GroupNorm(shape[-1], groups, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
    norm.scale[...], norm.bias[...] = random(shape[-1]), random(shape[-1], seed=1)
    x = 5 + random(*shape)
    wanted = group_norm_by_loops(x, groups, batch_axes, np.asarray(norm.scale[...]), np.asarray(norm.bias[...]))
    assert_close(norm(x, batch_axes), wanted)


def test_groups_have_sixteen_channels_at_most_and_one_number_is_refused():
    made = {c: ATTENTIONS["srm"](c, cyclic(4), norm="group", rngs=nnx.Rngs(0)).norms.norm for c in (8, 17, 24, 64)}
    assert {c: norm.channel_groups for c, norm in made.items()} == {8: 1, 17: 17, 24: 2, 64: 4}
    with assert_refused("a norm of every image by itself takes 2 numbers at least, got one", "take more channels"):
        made[17](jnp.ones((3, 1, 17), jnp.float32))
    with assert_refused("channel_groups must divide the 6 channels"):
        GroupNorm(6, 4, rngs=nnx.Rngs(0))


def test_arguments_of_a_norm_that_cannot_be_are_refused():
    for options, message in (
        (dict(features=0), "features must be an integer of at least 1, got 0"),
        (dict(epsilon=-1.0), "epsilon must be a positive finite number, got -1.0"),
        (dict(param_dtype="int32"), "param_dtype must be one of float16, bfloat16, float32, float64, got 'int32'"),
    ):
        with assert_refused(message):
            GroupNorm(**{"features": 4, **options}, rngs=nnx.Rngs(0))
    norm = GroupNorm(4, rngs=nnx.Rngs(0))
    with assert_refused("x must have the 4 channels of the norm last, got shape (2, 3, 5)"):
        norm(jnp.ones((2, 3, 5), jnp.float32))
    with assert_refused("batch_axes must be an integer of at least 0, got -1"):
        norm(jnp.ones((2, 3, 4), jnp.float32), -1)


@pytest.mark.parametrize("kind", ["layer", "group"])
@pytest.mark.parametrize("name", NORMED)
def test_norms_of_single_images_commute_with_the_group(name, kind):
    group, c = dihedral(4), features_of(name)
    module = with_random_arrays(lambda: normed(name, group, param_dtype=jnp.float64, **of_norms(name, kind)))
    assert equivariance_error(jax.jit(module), random(2, 6, 6, 8, c), group, "feature_map") < 1e-10


def test_unknown_kinds_of_norms_are_refused():
    kinds = '"batch", "layer", "group", None, or a function that makes a norm, such as nnx.LayerNorm'
    wanted = f"norm must be one of {kinds}, got 'instance'"
    for make in (
        lambda: ATTENTIONS["srm"](4, trivial(), norm="instance", rngs=nnx.Rngs(0)),
        lambda: SelectiveKernelGroupConv(3, 4, 3, trivial(), norm="instance", rngs=nnx.Rngs(0)),
        lambda: RotMNISTNet(trivial(), "srm", attention_options={"norm": "instance"}, rngs=nnx.Rngs(0)),
    ):
        with assert_refused(wanted):
            make()
    with assert_refused("se has no argument 'norm'"):
        ATTENTIONS["se"](4, trivial(), norm="layer", rngs=nnx.Rngs(0))


@pytest.mark.parametrize("name", ["srm", "sk"])
def test_networks_have_the_norm_that_is_asked_for_and_are_saved_with_it(name, tmp_path):
    network = random_network(trivial(), name, features=4, attention_options={"norm": "layer"})
    assert sum(isinstance(part, GroupNorm) for _, part in nnx.iter_graph(network)) == 6
    save_network(tmp_path / "network", network)
    assert nnx.graphdef(load_network(tmp_path / "network")) == nnx.graphdef(network)
    network.train()
    assert call(network, 1, 28, 28, 1, 1) == (1, 10)


def test_maps_of_one_position_are_refused_of_one_image():
    network = nnx.eval_shape(lambda: ResNet(18, trivial(), features=2, classes=3, rngs=nnx.Rngs(0)))
    with assert_refused(SINGLE):
        call(network, 1, 32, 32, 1, 3)
    assert call(network, 1, 33, 33, 1, 3) == (1, 3)
    network.eval()
    assert call(network, 1, 32, 32, 1, 3) == (1, 3)


def test_scales_of_a_grid_are_numbers_of_a_channel():
    for group in (scalings(3, 1.74), similarities(4, 3, 1.74)):
        module = LieAttention("srm", 4, group, over_group=True, rngs=nnx.Rngs(0))
        assert call(module, 1, 5, 5, group.order, 4) == (1, 5, 5, group.order, 4)


def test_a_run_of_single_images_is_refused_where_a_norm_has_one_number():
    images, labels = random_images(4)
    split = Split(images[..., None, None].astype(np.float32), labels.astype(np.int32))
    dataset = Dataset("four", 10, split, split, split)

    def trainer(attention, batch_size, **options):
        network = model("rot_mnist", "z2", attention, features=(2,), **options)
        return make_trainer(Config(model=network, optimizer=OptimizerConfig(batch_size=batch_size)), dataset)

    with assert_refused(f"optimizer.batch_size must be at least 2 for this network, got 1: {SINGLE}"):
        trainer("srm", 1)
    for arguments in (("srm", 2), ("none", 1)):
        trainer(*arguments)
    trainer("srm", 1, attention_options=("norm=layer",))
