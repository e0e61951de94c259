"""Augmentation: what is exact, what is interpolated, how its numbers are drawn, and that training is reproducible."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_close, assert_refused

from experiments.augmentation import KINDS, AugmentConfig, Mixture, augment
from experiments.augmentation.geometry import resample, rotation, turned
from experiments.data import Dataset, Split, rotated_digits
from experiments.run.class_weights import class_weights
from experiments.run.configuration import Config, OptimizerConfig
from experiments.run.identity import from_identity, identity
from experiments.run.loop import make_trainer
from experiments.run.model_configuration import model
from experiments.run.optimizer import make_optimizer
from experiments.run.training import Trainer

GENERATOR = np.random.default_rng(0)
EVERYTHING = dict(
    flip=True, quarter_turns=True, rotate=30, scale=(0.8, 1.25), shift=0.1, contrast=0.2, brightness=0.2, noise=0.1,
    cutout=0.3, mixup=0.4, mirror=True, crop=2,
)  # fmt: skip


def random_images(count, x, y, c=1):
    return jnp.asarray(GENERATOR.standard_normal((count, x, y, 1, c)))


def changed(seed, images, **settings):
    config, labels = AugmentConfig(**settings), jnp.arange(len(images))
    return jax.jit(lambda key: augment(key, images, labels, config, -1.0))(jax.random.key(seed))


@pytest.mark.parametrize("size", [7, 8])
def test_a_turn_by_right_angles_is_rot90(size):
    images = random_images(4, size, size, 2)
    quarters = np.arange(4)
    expected = np.stack([np.rot90(image, k) for k, image in enumerate(images)])
    np.testing.assert_array_equal(turned(images, jnp.asarray(quarters)), expected)
    turn = jax.jit(lambda angles: resample(images, rotation(angles), 5.0))
    assert_close(turn(jnp.asarray(quarters * np.pi / 2)), expected)


def bilinear(image, place, background):
    """A pixel `[c]` at a place in pixels from the centre, of an image `[x, y, c]` amid background."""
    total = np.zeros(image.shape[-1])
    place = place + (np.array(image.shape[:2]) - 1) / 2
    for i in range(-1, image.shape[0] + 1):
        for j in range(-1, image.shape[1] + 1):
            weight = np.prod(np.maximum(0, 1 - np.abs(place - [i, j])))
            inside = 0 <= i < image.shape[0] and 0 <= j < image.shape[1]
            total += weight * (image[i, j] if inside else background)
    far = np.any(place <= -1) or np.any(place >= image.shape[:2])
    return np.full_like(total, background) if far else total


def test_affine_maps_are_carried_out_in_one_bilinear_interpolation():
    """Turned by 0.4, enlarged by 1.3, then moved by (1, -0.5) pixels, against a loop over pixels."""
    images, cosine, sine = random_images(2, 5, 6, 3), np.cos(0.4), np.sin(0.4)
    turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    map_ = turn @ np.diag([1 / 1.3, 1 / 1.3, 1]) @ np.array([[1, 0, -1], [0, 1, 0.5], [0, 0, 1]])
    actual = jax.jit(resample)(images, jnp.asarray(np.stack([map_, np.eye(3)])), -2.0)
    for i, j in np.ndindex(5, 6):
        place = (map_ @ [i - 2, j - 2.5, 1])[:2]
        assert_close(actual[0, i, j, 0], bilinear(np.asarray(images)[0, :, :, 0], place, -2.0))
    assert_close(actual[1], images[1])


def test_geometric_settings_draw_what_they_say():
    """Angles are uniform in both signs, the logarithm of scales too, and shifts along both axes alone."""
    images, key = jnp.zeros((4000, 10, 20, 1, 1)), jax.random.key(0)
    maps = {name: np.asarray(KINDS[name].apply(key, images, value)) for name, value in EVERYTHING.items() if
            KINDS[name].site == "place"}  # fmt: skip
    angles = np.degrees(np.arctan2(maps["rotate"][:, 0, 1], maps["rotate"][:, 0, 0])) / 30
    logarithms = -np.log(maps["scale"][:, 1, 1]) / np.log(1.25)
    shifts = -maps["shift"][:, :2, 2] / [1, 2]
    np.testing.assert_array_equal(maps["scale"][:, 0, 0], maps["scale"][:, 1, 1])
    np.testing.assert_array_equal(maps["shift"] * [[1, 1, 0], [1, 1, 0], [1, 1, 1]], np.tile(np.eye(3), (4000, 1, 1)))
    for drawn in (angles, logarithms, *shifts.T):
        assert np.abs(np.histogram(drawn, 4, (-1, 1))[0] / 4000 - 0.25).max() < 0.03
        assert np.abs(drawn).max() <= 1


def test_flips_and_quarter_turns_are_permutations_of_all_eight_kinds_alike():
    image = random_images(1, 3, 3)
    images = jnp.tile(image, (4000, 1, 1, 1, 1))
    flat = np.asarray(changed(0, images, flip=True, quarter_turns=True)[0]).reshape(4000, 9)
    kinds, counts = np.unique(flat, axis=0, return_counts=True)
    turns = [np.rot90(np.asarray(image)[0, :, :, 0, 0], k) for k in range(4)]
    expected = np.unique([each.ravel() for turn in turns for each in (turn, turn[::-1])], axis=0)
    np.testing.assert_array_equal(kinds, expected)
    assert np.abs(counts / 4000 - 1 / 8).max() < 0.03
    reversed_only = np.asarray(changed(0, images, flip=True)[0]).reshape(4000, 9)
    assert len(np.unique(reversed_only, axis=0)) == 4


def test_mirror_images_exchange_left_and_right_of_half_of_the_pictures():
    image = random_images(1, 3, 4, 2)
    found = np.asarray(changed(0, jnp.tile(image, (1000, 1, 1, 1, 1)), mirror=True)[0])
    mirrored = np.all(found == np.asarray(image)[:, :, ::-1], axis=(1, 2, 3, 4))
    assert np.all(mirrored | np.all(found == np.asarray(image), axis=(1, 2, 3, 4)))
    assert abs(mirrored.mean() - 0.5) < 0.05


@pytest.mark.parametrize("background", [-1.0, (-1.0, -2.0)])
@pytest.mark.default("-1.0", "background1")
def test_crops_are_pieces_of_the_picture_amid_background_from_anywhere(background):
    """All 25 are drawn alike; a loop pads the picture and cuts them out."""
    image = random_images(1, 5, 6, 2)
    padded = np.empty((9, 10, 1, 2))
    padded[...] = background
    padded[2:-2, 2:-2] = image[0]
    config, images = AugmentConfig(crop=2), jnp.tile(image, (5000, 1, 1, 1, 1))
    crop = jax.jit(lambda key: augment(key, images, jnp.zeros(5000, int), config, jnp.asarray(background))[0])
    found = np.asarray(crop(jax.random.key(0)))
    counts = [np.all(found == padded[i : i + 5, j : j + 6], axis=(1, 2, 3, 4)).sum() for i, j in np.ndindex(5, 5)]
    assert sum(counts) == 5000 and np.abs(np.array(counts) / 5000 - 1 / 25).max() < 0.012
    assert changed(0, images[:2], crop=4)[0].shape == (2, 5, 6, 1, 2)
    with assert_refused("augment.crop must be less than the 5 pixels of the images, got 5"):
        changed(0, images[:2], crop=5)


def test_interpolated_pictures_have_the_background_of_their_channel():
    images = jnp.ones((2, 5, 5, 1, 3))
    far = jnp.asarray(np.tile(np.array([[1.0, 0, 20], [0, 1, 0], [0, 0, 1]]), (2, 1, 1)))
    outside = resample(images, far, jnp.array([-1.0, -2.0, -3.0]))
    np.testing.assert_array_equal(outside, np.broadcast_to([-1.0, -2.0, -3.0], images.shape))


def test_a_crop_beyond_the_pictures_is_refused_before_a_run_begins():
    digits = rotated_digits(0)
    with assert_refused("augment.crop must be less than the 28 pixels of the images, got 28"):
        make_trainer(Config(augment=AugmentConfig(crop=28)), digits)


@pytest.mark.parametrize("channelwise", [False, True])
def test_the_background_in_training_is_the_darkest_pixel_of_all_or_of_each_channel(channelwise, monkeypatch):
    """Seen by a trainer whose step keeps the least of what it is given in place of the loss."""
    pixels = GENERATOR.integers(4, size=(12, 28, 28, 1, 3)).astype(np.float32) + np.arange(3, dtype=np.float32)
    split = Split(pixels, np.asarray(LABELS))
    data = Dataset("twelve", 10, split, split, split).standardised(channelwise=channelwise)

    class Watching(Trainer):
        def step(self, state, images, labels, mixture=None):
            seen = jnp.min(images, axis=(0, 1, 2, 3))
            loss = jnp.sum(seen * jnp.array([1, 10, 100])).astype(state.loss.dtype)
            return state._replace(loss=state.loss + loss, step=state.step + 1)

    monkeypatch.setattr("experiments.run.loop.Trainer", Watching)
    network, optimizer = model("rot_mnist", "z2", features=(1,)), OptimizerConfig(batch_size=12)
    each = make_trainer(Config(model=network, optimizer=optimizer, augment=AugmentConfig(crop=27)), data)
    state = each.train(each.init((0,)), data.train.images, LABELS, 1)
    darkest = data.train.images.min(axis=(0, 1, 2, 3) if channelwise else None) * np.ones(3)
    assert (len(set(darkest.tolist())) == 3) == channelwise
    assert float(state.loss[0]) == pytest.approx(darkest @ [1, 10, 100], rel=1e-5)


def test_intensities_change_as_their_formulas_say():
    images = random_images(2000, 4, 6, 2)
    difference = np.asarray(changed(0, images, brightness=0.5)[0] - images)
    np.testing.assert_allclose(difference, difference[:, :1, :1, :, :1] + np.zeros_like(difference), atol=1e-12)
    assert np.abs(np.histogram(difference[:, 0, 0, 0, 0], 4, (-0.5, 0.5))[0] / 2000 - 0.25).max() < 0.03
    centred, means = np.asarray(changed(0, images, contrast=0.5)[0]), np.asarray(images).mean((1, 2, 3, 4))
    factors = centred.std((1, 2, 3, 4)) / np.asarray(images).std((1, 2, 3, 4))
    np.testing.assert_allclose(centred.mean((1, 2, 3, 4)), means, atol=1e-12)
    assert 0.5 <= factors.min() < 0.52 and 1.48 < factors.max() <= 1.5
    noise = np.asarray(changed(0, images, noise=0.2)[0] - images)
    assert abs(noise.std() - 0.2) < 0.002 and abs(noise.mean()) < 0.002 and len(np.unique(noise)) == noise.size


def test_cutout_covers_its_share_of_the_area():
    """A square of 0.4 times the side about a uniform centre: 0.16, less what lies beyond the edge."""
    images = jnp.ones((4000, 20, 10, 1, 2))
    covered = np.asarray(changed(0, images, cutout=0.4)[0] == 0)
    assert np.all(covered[..., 0] == covered[..., 1])
    rows, columns = (covered[..., 0, 0].any(axis=axis).sum(axis=1) for axis in (2, 1))
    assert np.all(covered[..., 0, 0].sum((1, 2)) == rows * columns)
    assert rows.max() in (8, 9) and columns.max() in (4, 5)
    assert abs(covered.mean() - (0.4 - 0.4**2 / 4) ** 2) < 0.004


def test_mixtures_are_sums_of_pairs_with_the_larger_share_first():
    images = random_images(500, 3, 3)
    mixed, (labels, share) = changed(0, images, mixup=0.4)
    assert sorted(labels.tolist()) == list(range(500)) and labels.tolist() != list(range(500))
    part = np.asarray(share).reshape(-1, 1, 1, 1, 1)
    np.testing.assert_allclose(mixed, part * images + (1 - part) * np.asarray(images)[labels], rtol=1e-12)
    # Of Beta(a, a) the variance is 1 / (4 (2 a + 1)); taking the larger of s and 1 - s keeps (s - 1/2)^2.
    assert share.min() >= 0.5 and abs(np.mean((share - 0.5) ** 2) - 1 / (4 * 1.8)) < 0.01


def test_nothing_chosen_changes_nothing_and_the_same_key_draws_the_same():
    images = random_images(3, 5, 5)
    assert AugmentConfig(rotate=0, preview=None).chosen == []
    unchanged, mixture = augment(jax.random.key(0), images, jnp.arange(3), AugmentConfig(), -1.0)
    assert unchanged is images and mixture is None
    first, again, other = (changed(seed, images, rotate=30, noise=0.1)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_what_a_kind_draws_does_not_depend_on_what_else_is_chosen():
    images = random_images(3, 5, 5)
    noise = changed(0, images, noise=0.1)[0] - images
    assert_close(changed(0, images, noise=0.1, brightness=0.3)[0] - changed(0, images, brightness=0.3)[0], noise)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(rotate=181), "augment.rotate must be in 0 to 180, got 181"),
        (dict(rotate=float("nan")), "augment.rotate must be in 0 to 180, got nan"),
        (dict(flip=1), "augment.flip must be True or False, got 1"),
        (dict(scale=(1.2, 0.8)), "augment.scale must be two positive numbers, the smaller first, got (1.2, 0.8)"),
        (dict(shift=-0.1), "augment.shift must be in 0 to 1, got -0.1"),
        (dict(crop=-1), "augment.crop must be pixels, at least 0, got -1"),
        (dict(mirror=1), "augment.mirror must be True or False, got 1"),
        (dict(mixup=-1), "augment.mixup must be not negative, got -1"),
        (dict(preview="x.jpg"), "augment.preview must be a file whose name ends in .png, got x.jpg"),
    ],
    ids=str,
)
def test_wrong_settings_are_one_line(settings, message):
    settings = {name: pathlib.Path(value) if name == "preview" else value for name, value in settings.items()}
    with assert_refused(message) as caught:
        AugmentConfig(**settings)
    assert str(caught.value) == message


def test_settings_are_part_of_a_run_and_runs_from_before_have_none(tmp_path):
    config = Config(augment=AugmentConfig(**EVERYTHING), optimizer=OptimizerConfig(class_weights=(1.0, 2.0)))
    assert from_identity(identity(config)) == config
    previewed = Config(augment=AugmentConfig(preview=tmp_path / "x.png"))
    assert identity(previewed) == identity(Config())
    before = {name: value for name, value in identity(Config()).items() if not name.startswith("augment.")}
    del before["optimizer.class_weights"]
    assert from_identity(before) == Config()


@functools.cache
def trainer(mode="loop", **options):
    config = model("rot_mnist", "z2", features=(2,), dropout_rate=0.1)
    return Trainer(config, 10, make_optimizer(OptimizerConfig(), 3), 4, mode, **options)


IMAGES = jnp.asarray(GENERATOR.standard_normal((12, 28, 28, 1, 1)), jnp.float32)
LABELS = jnp.arange(12, dtype=jnp.int32) % 10


def after(trainer, seeds, calls):
    """Parameters of the seeds after calls of so many steps each."""
    state = trainer.init(seeds)
    for count in calls:
        state = trainer.train(state, IMAGES, LABELS, count)
    return state


def leaves(state, seed=slice(None)):
    return np.concatenate([np.asarray(leaf)[seed].ravel() for leaf in jax.tree.leaves(state.params)])


def test_settings_that_change_nothing_train_as_if_there_were_none():
    """The compiled program is the same, and is another where something is changed."""
    trainers = trainer(), trainer(augmentation=AugmentConfig()), trainer(augmentation=AugmentConfig(noise=0.1))
    state = trainers[0].init((0,))
    plain, off, on = (each.train.lower(each, state, IMAGES, LABELS, 3).as_text() for each in trainers)
    assert plain == off != on


def test_augmented_training_is_the_same_however_steps_are_cut_into_calls():
    each = trainer(augmentation=AugmentConfig(**EVERYTHING))
    whole, cut = (after(each, (3,), calls) for calls in ([2, 1], [1, 2]))
    np.testing.assert_array_equal(leaves(whole), leaves(cut))
    assert float(whole.loss[0]) == float(cut.loss[0]) and int(whole.wrong[0]) == int(cut.wrong[0])


@pytest.mark.slow
def test_augmented_training_is_the_same_whether_seeds_run_side_by_side():
    """And other than without augmentation."""
    config = AugmentConfig(**EVERYTHING)
    together, in_turn = (after(trainer(mode, augmentation=config), (3, 5), [3, 3]) for mode in ("vmap", "loop"))
    np.testing.assert_allclose(leaves(together), leaves(in_turn), atol=2e-4)
    assert np.abs(leaves(after(trainer(), (3, 5), [3, 3])) - leaves(in_turn)).max() > 1e-3


def test_every_step_and_seed_sees_pictures_of_its_own():
    each = trainer(augmentation=AugmentConfig(rotate=180))
    states = [jax.tree.map(lambda leaf, i=i: leaf[i], each.init((3, 5))) for i in range(2)]
    states += [states[0]._replace(step=jnp.int32(1))]
    pictures = [each.augmented(state, IMAGES, LABELS)[0] for state in states]
    assert all(np.abs(a - b).max() > 0.5 for a, b in [(pictures[0], pictures[1]), (pictures[0], pictures[2])])


def test_the_loss_is_weighted_by_class_and_that_of_mixtures_is_of_both_labels():
    """And errors count against the label of the larger share."""
    weights = class_weights("balanced", np.asarray(LABELS), 10)
    each = trainer(class_weights=tuple(weights))
    params, rest = jax.tree.map(lambda leaf: leaf[0], each.init((0,))[:2])
    mixture = Mixture(LABELS[4:8], jnp.array([0.5, 0.6, 0.9, 1], jnp.float32))

    @jax.jit
    def run(params, rest):
        logits = nnx.merge(each.graph, params, rest, copy=True)(IMAGES[:4])
        return (
            logits,
            each.loss(params, rest, IMAGES[:4], LABELS[:4]),
            each.loss(params, rest, IMAGES[:4], LABELS[:4], mixture),
        )

    logits, (loss, (_, wrong)), (mixed, (_, mixed_wrong)) = run(params, rest)
    logits = np.asarray(logits, np.float64)
    losses = np.log(np.exp(logits).sum(axis=1, keepdims=True)) - logits
    own, others = (weights[labels] * losses[np.arange(4), labels] for labels in (LABELS[:4], LABELS[4:8]))
    share = np.asarray(mixture.share)
    assert float(loss) == pytest.approx(own.mean(), rel=1e-5)
    assert float(mixed) == pytest.approx((share * own + (1 - share) * others).mean(), rel=1e-5)
    assert int(wrong) == int(mixed_wrong) == np.sum(logits.argmax(axis=1) != LABELS[:4])


def test_class_weights_are_inverse_to_the_images_and_one_on_average():
    labels = np.array([0, 0, 0, 2, 2, 3])
    balanced, given = (class_weights(setting, labels, 4) for setting in ("balanced", (1.0, 5.0, 2.0, 1.0)))
    np.testing.assert_allclose(balanced, [6 / (3 * 3), 0, 6 / (3 * 2), 6 / (3 * 1)])
    np.testing.assert_allclose(given, np.array([1, 5, 2, 1]) * 6 / (3 * 1 + 2 * 2 + 1))
    assert balanced[labels].mean() == pytest.approx(1) == given[labels].mean()
    assert class_weights("none", labels, 4) is None
    with assert_refused("optimizer.class_weights must be 4 numbers, one a class, got 2"):
        class_weights((1.0, 2.0), labels, 4)
    with assert_refused(
        "optimizer.class_weights must be none, balanced, or positive numbers, one a class, got (1.0, 0"
    ):
        OptimizerConfig(class_weights=(1.0, 0.0))
