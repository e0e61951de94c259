"""Runs that start from other weights: what is taken over, what is new, what stays frozen, and what does not fit."""

import dataclasses
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import with_random_arrays

from attgconv_jax import trivial
from attgconv_jax.models import ResNet, save_network
from attgconv_jax.nn.norm import set_running_variance
from experiments.data import Dataset, Split, rotated_digits
from experiments.run.configuration import Config, OptimizerConfig
from experiments.run.head import head_of, named
from experiments.run.loop import first_state, fit, make_trainer
from experiments.run.model_configuration import model
from experiments.run.optimizer import make_optimizer
from experiments.run.training import Trainer, make_network
from experiments.run.transfer import check_start, read_weights, start_message, start_of
from experiments.run.workdir import Run
from experiments.train import train_run

TINY = model("rot_mnist", "z2", features=(1,), dropout_rate=0.1)
HEAD = "convolutions.6.w"


@pytest.fixture(scope="module")
def digits():
    """Fifty digits a split."""
    digits = rotated_digits(seed=0).standardised()
    splits = {name: Split(split.images[:50], split.labels[:50]) for name, split in digits.splits().items()}
    return Dataset("few digits", 10, **splits, provenance=digits.provenance)


def few_classes(digits, names):
    """The digits below five, called otherwise."""
    splits = {}
    for name, split in digits.splits().items():
        chosen = split.labels < 5
        splits[name] = Split(split.images[chosen], split.labels[chosen])
    return dataclasses.replace(digits, classes=5, class_names=names, **splits)


def random_network(config=TINY, classes=10):
    return with_random_arrays(lambda: make_network(config, classes, 0))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a network with random arrays, and the network."""
    path, network = tmp_path_factory.mktemp("networks") / "saved", random_network()
    save_network(path, network)
    return path, network


def config(path, freeze="none", **fields):
    optimizer = OptimizerConfig(epochs=2, batch_size=8, l2=0.1, weight_decay=0.1, clip_norm=1.0)
    return Config(init_from=path, freeze=freeze, optimizer=optimizer, **{"model": TINY} | fields)


def arrays(*states, seed=0):
    """Numbers of one seed by name, random streams left out."""
    variables = {name: variable for state in states for name, variable in named(state).items()}
    return {name: np.asarray(v.get_value()[seed]) for name, v in variables.items() if not isinstance(v, nnx.RngState)}


@pytest.mark.parametrize(
    ("network", "head"),
    [
        (model("rot_mnist", "p4", "input"), {"convolutions.6.conv.w"}),
        (model("rot_mnist", "p4", "response"), {f"convolutions.6.{name}" for name in ("w", "w1", "w2", "spatial")}),
        (model("all_cnn", "p4"), {"convolutions.8.w", *(f"norms.8.{n}" for n in ("scale", "bias", "mean", "var"))}),
        (model("resnet", "p4", depth=18), {"classifier.kernel", "classifier.bias"}),
        (model("lie_resnet", "SE2-4"), {"logits.kernel", "logits.bias"}),
        (
            model("lie_all_cnn", "SE2-4"),
            {f"classifier.conv.weights.factors.{i}.out.{n}" for i in (0, 1) for n in "wb"},
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_the_head_is_what_depends_on_the_number_of_classes(network, head):
    assert head_of(network, 10) == head


def test_a_frozen_body_stays_bit_for_bit_and_the_head_moves(digits):
    """Whatever decays, and statistics too; the gradient is that of the head behind the body as it is evaluated."""
    images, labels = jnp.asarray(digits.train.images), jnp.asarray(digits.train.labels)
    optimizer = make_optimizer(config("x", "body").optimizer, 5)
    trainer = Trainer(TINY, 10, optimizer, 8, freeze="body")
    before = trainer.init((0,))
    first, last = arrays(before.params, before.rest), jax.tree.map(jnp.copy, before)
    state = trainer.train(last, images, labels, 3)
    after = arrays(state.params, state.rest)
    assert after.keys() == first.keys() and "norms.0.mean" in first
    for name, array in after.items():
        assert (array.tobytes() == first[name].tobytes()) == (name != HEAD), name
    assert {leaf.shape[1:] for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim > 1} == {first[HEAD].shape}

    def loss(filters):
        network = trainer.network(before.params, before.rest, 0)
        network.convolutions[6].w[...] = filters
        return -jnp.mean(jax.nn.log_softmax(network(images[:8]))[jnp.arange(8), labels[:8]])

    one = jax.tree.map(lambda leaf: leaf[0], before)
    gradient = jax.jit(jax.grad(lambda params: trainer.loss(params, one.rest, images[:8], labels[:8])[0]))(one.params)
    expected = jax.jit(jax.grad(loss))(jnp.asarray(first[HEAD]))
    np.testing.assert_allclose(named(gradient)[HEAD].get_value(), expected, rtol=1e-5, atol=1e-7)


def test_every_seed_starts_from_the_weights_of_the_source(saved, digits):
    path, source = saved
    start = start_of(config(path), digits)
    (state, best) = first_state(make_trainer(config(path), digits), (3, 4), start)
    expected = {name: np.asarray(v.get_value()) for name, v in named(nnx.state(source)).items() if name in start.arrays}
    for seed in (0, 1):
        started = arrays(state.params, state.rest, seed=seed)
        assert started.keys() == expected.keys()
        for name, array in started.items():
            np.testing.assert_array_equal(array, expected[name])
        np.testing.assert_array_equal(arrays(best.params, seed=seed)[HEAD], expected[HEAD])
    assert start.record["new_head"] == [] and start.record["sha256"] == read_weights(path).sha256
    message = f"starts from {path} with its head, since the classes are the same"
    assert start_message(config(path), start.record, 10) == message


def test_other_classes_get_a_new_head_that_is_named(saved, digits, tmp_path):
    """Fewer, and as many with other names where the source's are known."""
    path, _ = saved
    few = few_classes(digits, tuple("abcde"))
    start = start_of(config(path, "body"), few)
    assert start.record["new_head"] == [HEAD] and HEAD not in start.arrays
    message = start_message(config(path, "body"), start.record, 5)
    assert message == (
        f"starts from {path} with a new head (10 classes there, 5 here): {HEAD}; trains 80 of 146 parameters, the "
        "head's"
    )
    with (run := Run(tmp_path / "run")).locked():
        run.begin(Config(model=TINY), few_classes(digits, tuple("fghij")))
    save_network(run.workdir / "networks" / "seed-0-best", random_network(classes=5))
    assert start_of(config(run.workdir), few).record["new_head"] == [HEAD]
    assert start_of(config(run.workdir), few_classes(digits, tuple("fghij"))).record["new_head"] == []
    # The names that stand with the network go before those of its run.
    named = tmp_path / "named" / "networks" / "seed-0-best"
    save_network(named, random_network(classes=5), class_names=tuple("abcde"))
    shutil.copy(run.workdir / "run.json", tmp_path / "named")
    assert read_weights(named).class_names == read_weights(tmp_path / "named").class_names == few.class_names


def test_a_run_keeps_the_variance_that_its_source_keeps(digits, tmp_path, monkeypatch):
    """In its networks and its record, also when it is continued without its source."""
    source, workdir, kept = random_network(), tmp_path / "run", []
    set_running_variance(source, "unbiased")
    save_network(tmp_path / "source", source)

    def stopped(run, trainer, dataset, **options):
        kept.append(nnx.eval_shape(lambda: trainer.network(*trainer.init((0,))[:2], 0)).running_variance)
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.train.fit", stopped)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_run(config(tmp_path / "source"), workdir, digits)
        shutil.rmtree(tmp_path / "source", ignore_errors=True)
        (workdir / "checkpoints" / "3").mkdir(parents=True, exist_ok=True)
    assert kept == ["unbiased"] * 2 and Run(workdir).description["start"]["running_variance"] == "unbiased"
    assert Run(workdir).running_variance == "unbiased" and Run(tmp_path / "none").running_variance == "biased"


def test_a_network_whose_stages_have_options_of_their_own_can_be_trained_further(digits, tmp_path):
    sizes = dict(depth=18, features=1, in_features=1, classes=10)
    options = {"kernel_size": [3, 5, 5, 3]}
    network = with_random_arrays(
        lambda: ResNet(group=trivial(), attention="eca", attention_options=options, **sizes, rngs=nnx.Rngs(0))
    )
    save_network(tmp_path / "resnet", network)
    again = model("resnet", "z2", "eca", depth=18, features=1, attention_options=("kernel_size=[3,5,5,3]",))
    start = start_of(config(tmp_path / "resnet", model=again), digits)
    assert start.record["new_head"] == [] and "stages.1.0.attention.weights" in start.arrays
    with pytest.raises(ValueError, match=r"model.attention_options: .* one kernel_size, or 4, one per stage"):
        model("resnet", "z2", "eca", depth=18, attention_options=("kernel_size=[3,5]",))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(model=model("rot_mnist", "p4m", features=(2,))),
            r"holds another network: group is trivial\(\) there and dihedral\(4\) here; features is 1 there and 2 here",
        ),
        (dict(model=model("resnet", "z2", depth=18)), "another network: name is rot_mnist there and resnet here"),
        (dict(data=3), "another network: in_features is 1 there and 3 here. Take --model options and data as of that"),
    ],
    ids=["group and widths", "network", "channels"],
)
@pytest.mark.default("group and widths", "network", "channels")
def test_what_does_not_fit_is_named_in_one_line(saved, digits, change, message):
    if "data" in change:
        splits = {name: Split(split.images.repeat(3, -1), split.labels) for name, split in digits.splits().items()}
        digits, change = dataclasses.replace(digits, **splits), {}
    with pytest.raises(ValueError, match=message) as refused:
        start_of(config(saved[0], **change), digits)
    assert "\n" not in str(refused.value)


def test_weights_that_are_not_there_are_refused(tmp_path, digits):
    with pytest.raises(ValueError, match="init_from must be the folder of a run or of a saved network, got "):
        start_of(config(tmp_path), digits)
    with (run := Run(tmp_path / "run")).locked():
        run.begin(Config(model=TINY), digits)
    with pytest.raises(ValueError, match="is not complete and has saved no network yet: train it to its end"):
        start_of(config(run.workdir), digits)
    with pytest.raises(ValueError, match="freeze body needs init_from: without it the body would stay random"):
        Config(freeze="body")


def test_weights_are_known_by_their_content(saved, digits, tmp_path):
    """A run with a checkpoint continues from the same path whatever is there, and from another with the same bits."""
    path, moved, other = tmp_path / "source", tmp_path / "moved", tmp_path / "other"
    for copy in (path, moved):
        shutil.copytree(saved[0], copy)
    different = random_network()
    different.convolutions[0].w[...] += 1e-6
    save_network(other, different)
    with (run := Run(tmp_path / "run")).locked():
        run.begin(config(path), digits, start=start_of(config(path), digits).record)
    check_start(run, config(moved))
    with pytest.raises(ValueError, match=re.escape(f"init_from is {path} there and {other} here")):
        check_start(run, config(other))
    with pytest.raises(ValueError, match=r"init_from is .*/source there and None here"):
        run.check(config(None))
    shutil.rmtree(path)
    with pytest.raises(ValueError, match="init_from must be the folder"):
        check_start(run, config(path))
    (run.workdir / "checkpoints" / "3").mkdir(parents=True)
    check_start(run, config(path))
    shutil.copytree(other, path)
    with pytest.warns(UserWarning, match="holds other weights by now than those that"):
        check_start(run, config(path))
    assert Run(run.workdir).config() == config(path)


@pytest.mark.slow
@pytest.mark.parametrize("freeze", ["none", "body"])
@pytest.mark.default()
def test_a_run_that_is_killed_needs_its_source_no_more(saved, digits, tmp_path, freeze):
    path = tmp_path / "source"
    shutil.copytree(saved[0], path)
    few = few_classes(digits, tuple("abcde"))
    start = start_of(config(path, freeze), few)

    def train(workdir, start, **options):
        with (run := Run(workdir)).locked():
            run.begin(config(path, freeze), few, start=start and start.record)
            return fit(run, make_trainer(config(path, freeze), few), few, start=start, **options)[0]

    whole = train(tmp_path / "whole", start)
    with pytest.raises(Exception, match="time is up"):
        train(tmp_path / "killed", start, deadline=0)
    shutil.rmtree(path)
    check_start(Run(tmp_path / "killed"), config(path, freeze))
    continued = train(tmp_path / "killed", None)
    for name, array in arrays(whole.params, whole.rest).items():
        np.testing.assert_array_equal(array, arrays(continued.params, continued.rest)[name])
        frozen = freeze == "body" and name != HEAD
        assert (array.tobytes() == np.asarray(start.arrays.get(name, np.nan)).tobytes()) == frozen, name
