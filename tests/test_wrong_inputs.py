"""Wrong inputs: each is one line that names the argument and says what would be right.

Inputs of one kind have tables of their own: `test_folder`, `test_arrays` (data), `test_classifier` (pixels, names),
`test_checkpoint`, `test_saving`, `test_own_networks` (files), `test_plotting_refusals` (figures), `test_predict`.
"""

import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from helpers import assert_refused, without_annotations

from attgconv_jax import Sampling, cyclic, equivariance_error, filter_bank, group_conv, max_pool, squeeze_excitation
from attgconv_jax.export import export_network
from attgconv_jax.lie import rotations
from attgconv_jax.models import Classifier, ResNet, RotMNISTNet, load_classifier, load_network, save_network
from attgconv_jax.nn import (
    AttentiveGroupConv,
    GroupConv,
    LieConv,
    ResponseAttentiveGroupConv,
    SpatialGroupEnhance,
    SqueezeExcitation,
)
from attgconv_jax.preprocessing import Preprocessing
from experiments import compare, evaluate, export, predict, reproduce, train
from experiments.bench import eager, pooling, starts
from experiments.run.messages import one_line

P4 = cyclic(4)
IMAGES = jnp.zeros((2, 9, 9, 3), jnp.float32)
FEATURES = np.ones((1, 5, 5, 4, 1))
UINT8, NAMES = Preprocessing(28, mean=0.1, deviation=0.3), ("cell", "dust", "hair")


def rngs():
    return nnx.Rngs(0)


def net():
    return RotMNISTNet(P4, features=1, classes=3, rngs=rngs())


class Own(nnx.Module):
    def __init__(self):
        self.head = nnx.Linear(1, 3, rngs=rngs())

    def __call__(self, images):
        return self.head(jnp.mean(images, axis=(1, 2, 3)))


IN_PYTHON = {
    "images without a group axis": (
        lambda: group_conv(IMAGES, jnp.zeros((3, 3, 1, 3, 4), jnp.float32), P4),
        ("f has 9 group elements", "take f[..., None, :]"),
    ),
    "images without a group axis to a network": (
        lambda: RotMNISTNet(P4, features=2, rngs=rngs())(jnp.zeros((2, 28, 28, 1), jnp.float32)),
        ("image must be [..., 28, 28, 1, ", "image[..., None, :]"),
    ),
    "a missing lifting=True": (
        lambda: GroupConv(3, 4, 3, P4, rngs=rngs())(IMAGES[..., None, :]),
        ("f has 1 group elements", "lifting=True"),
    ),
    "a lifting too many": (
        lambda: GroupConv(3, 4, 3, P4, lifting=True, rngs=rngs())(jnp.zeros((2, 9, 9, 4, 3), jnp.float32)),
        ("f has 4 group elements", "leave out lifting=True"),
    ),
    "an unknown keyword of an operator": (
        lambda: SqueezeExcitation(8, P4, ratio=4, rngs=rngs()),
        ("se has no argument 'ratio'", "it takes reduction, hidden_features, over_group"),
    ),
    "an unknown keyword of an operator in a layer": (
        lambda: AttentiveGroupConv(4, 4, 3, P4, attention="sge", attention_options={"group": 2}, rngs=rngs()),
        ("sge has no argument 'group'", "groups"),
    ),
    "an argument of the layer in its attention": (
        lambda: AttentiveGroupConv(4, 4, 3, P4, attention_options={"precision": "high"}, attention="se", rngs=rngs()),
        ("se has no argument 'precision'", "give precision to the layer or network that has the attention"),
    ),
    "an argument of the network in its attention": (
        lambda: RotMNISTNet(P4, "response", attention_options={"precision": "high"}, rngs=rngs()),
        ("response has no argument 'precision'", "give precision to the layer or network that has the attention"),
    ),
    "the attention's implementation of a network": (
        lambda: RotMNISTNet(P4, "response", implementation="blocks", rngs=rngs()),
        ('one of "rows", "fourier", "shifts", "xla", got', 'attention_options=dict(implementation="blocks")'),
    ),
    "the implementation of attention that is not there": (
        lambda: RotMNISTNet(P4, "sk", implementation="blocks", rngs=rngs()),
        ("implementation must be None or one of \"rows\", \"fourier\", \"shifts\", \"xla\", got 'blocks'",),
    ),
    "memory as a fraction": (
        lambda: ResponseAttentiveGroupConv(3, 4, 3, P4, memory_budget=1e9, rngs=rngs()),
        ("memory_budget must be bytes, an integer of at least 1, such as 1_000_000_000, got 1000000000.0",),
    ),
    "memory of a network as a fraction": (
        lambda: RotMNISTNet(P4, "response", attention_options={"memory_budget": 1e9}, rngs=rngs()),
        ("memory_budget must be bytes",),
    ),
    "a misspelt argument of an attentive layer": (
        lambda: AttentiveGroupConv(3, 4, 3, P4, precison="highest", rngs=rngs()),
        ("AttentiveGroupConv has no argument 'precison'; it takes in_features,", " padding,", ", precision"),
    ),
    "groups of channels in a separable layer": (
        lambda: AttentiveGroupConv(4, 4, 3, P4, kind="separable", channel_groups=2, rngs=rngs()),
        ('channel_groups are of kind "nonseparable", got kind \'separable\'',),
    ),
    "an unknown attention": (
        lambda: AttentiveGroupConv(4, 4, 3, P4, attention="senet", rngs=rngs()),
        ("attention must be one of", "se", "got 'senet'"),
    ),
    "a word for a boolean": (
        lambda: GroupConv(3, 4, 3, P4, lifting="yes", rngs=rngs()),
        ("lifting must be True or False, got 'yes'",),
    ),
    "a fraction of a channel": (
        lambda: GroupConv(3, 2.5, 3, P4, rngs=rngs()),
        ("out_features must be an integer of at least 1, got 2.5",),
    ),
    "groups of channels that do not divide": (
        lambda: SpatialGroupEnhance(10, P4, groups=4, rngs=rngs()),
        ("groups must divide the 10 channels: one of 1, 2, 5, 10; got 4",),
    ),
    "a stride on an even size": (
        lambda: group_conv(jnp.zeros((1, 8, 8, 1, 1)), jnp.zeros((3, 3, 1, 1, 1)), P4, stride=2),
        ("an image of 8 pixels", "Sizes that work: 7, 9", "exact=False"),
    ),
    "a pooling of an odd size": (
        lambda: max_pool(jnp.zeros((1, 9, 9, 4, 1)), P4),
        ("an image of 9 pixels", "Sizes that work: 8, 10"),
    ),
    "a size for ImageNet": (
        lambda: ResNet(18, P4, features=4, rngs=rngs())(jnp.zeros((1, 224, 224, 1, 3), jnp.float32)),
        ("224 pixels", "take 225"),
    ),
    "an interpolation by its name": (
        lambda: filter_bank(jnp.zeros((3, 3, 1, 1, 1)), cyclic(8), sampling="cubic"),
        ("sampling must be a Sampling", 'Sampling("least_error")', "got 'cubic'"),
    ),
    "an unknown interpolation": (
        lambda: Sampling("nearest"),
        ('kind must be one of "least_error", "rings", "bilinear", "cubic", got \'nearest\'',),
    ),
    "weights of another dtype": (
        lambda: group_conv(jnp.zeros((1, 5, 5, 1, 1)), jnp.zeros((3, 3, 1, 1, 1), jnp.float32), P4),
        ("f and w must have one dtype, got float64 and float32; cast one of them",),
    ),
    "weights as a plain tuple": (
        lambda: squeeze_excitation(jnp.zeros((1, 5, 5, 4, 2)), (1, 2), P4),
        ("takes its weights as MLPWeights, got tuple",),
    ),
    "a Lie group in a finite layer": (
        lambda: GroupConv(1, 1, 3, rotations(4), rngs=rngs()),
        ("group must be a finite Group", "LieConv"),
    ),
    "a kind beside a lifting": (
        lambda: LieConv(1, 2, 5, rotations(4), lifting=True, kind="separable", rngs=rngs()),
        ("kind must be left out where images are lifted", "got 'separable'"),
    ),
    "a measure of no function of images": (
        lambda: equivariance_error(lambda f: f[..., :2, :, :, :], jnp.ones((1, 4, 3, 4, 1)), P4),
        ("does not treat the axes x and y alike",),
    ),
    "no function to measure": (
        lambda: equivariance_error(None, FEATURES, P4),
        ("function must be a function or a module of one argument, got NoneType",),
    ),
    "a class to measure": (
        lambda: equivariance_error(RotMNISTNet, FEATURES, P4),
        ("function must be a function or a module of one argument, got the class RotMNISTNet",),
    ),
    "a measure at a list": (
        lambda: equivariance_error(abs, FEATURES.tolist(), P4),
        ("x must be one array, got list",),
    ),
    "a measure at what is not finite": (
        lambda: equivariance_error(abs, FEATURES * np.inf, P4),
        ("x must be finite, got NaN or infinity",),
    ),
    "a measure at integers": (
        lambda: equivariance_error(abs, FEATURES.astype(np.uint8), P4),
        ("x must be floating and not empty, got uint8 of shape (1, 5, 5, 4, 1)",),
    ),
    "a measure at no images": (
        lambda: equivariance_error(abs, FEATURES[:0], P4),
        ("x must be floating and not empty, got float64 of shape (0, 5, 5, 4, 1)",),
    ),
    "a measure on a group by its name": (
        lambda: equivariance_error(abs, FEATURES, "p4"),
        ("group must be a finite Group such as attgconv_jax.cyclic(4), got 'p4'",),
    ),
    "a measure of several kinds": (
        lambda: equivariance_error(abs, FEATURES, P4, ["image"]),
        ('output must be "feature_map", "image" or "invariant", got [\'image\']',),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", IN_PYTHON)
def test_in_python(case):
    call, parts = IN_PYTHON[case]
    with assert_refused(*parts) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Saved networks, some of them damaged, what a run of another version left, and a file."""
    folder, network = tmp_path_factory.mktemp("saved"), net()
    save_network(folder / "net", network, preprocessing=UINT8, class_names=NAMES)
    save_network(folder / "bare", network)
    save_network(folder / "own", Own())
    described = json.loads((folder / "net/network.json").read_text())
    damaged = {
        "broken": "{",
        "nameless": json.dumps(described | {"class_names": ["cell"]}),
        "wider": json.dumps(described | {"settings": described["settings"] | {"features": 2}}),
    }
    for name, content in damaged.items():
        shutil.copytree(folder / "net", folder / name)
        (folder / name / "network.json").write_text(content)
    (folder / "former").mkdir()
    (folder / "former/run.json").write_text('{"config": {}, "data": {}}')
    for name in ("file", "picture.png"):
        (folder / name).touch()
    return folder


SAVED = {
    "a network for a path": (lambda at: load_classifier(net()), "path must be a path, a string or an os.PathLike, got"),
    "no path": (lambda at: load_network(None), "path must be a path, a string or an os.PathLike, got NoneType"),
    "a file for a checkpoint": (lambda at: load_network(at / "file"), "there is no directory @/file"),
    "names that were lost": (
        lambda at: load_classifier(at / "nameless"),
        "@/nameless/network.json does not describe a network: class_names must be 3, one a class of the network, got",
    ),
    "other widths": (
        lambda at: load_network(at / "wider"),
        "@/wider does not hold the described rot_mnist; misshapen: convolutions.0.w is (3, 3, 1, 1, 1) instead of ",
    ),
    "a class to fill": (
        lambda at: load_network(at / "own", like=Own),
        "like must be an nnx.Module, got the class Own: make one first",
    ),
    "a path for a network": (lambda at: Classifier("net", UINT8, NAMES), "network must be an nnx.Module, got str"),
    "no preprocessing": (lambda at: Classifier(net(), None, NAMES), "preprocessing must be given, got None"),
    "no names": (lambda at: Classifier(net(), UINT8, None), "class_names must be given, got None"),
    "a class to save": (
        lambda at: save_network(at / "new", RotMNISTNet),
        "network must be an nnx.Module, got the class RotMNISTNet: make one first",
    ),
    "a path below a file": (lambda at: save_network(at / "file/new", Own()), "@/file/new cannot be made: Not a dir"),
    "a word for arrays_only": (
        lambda at: save_network(at / "new", Own(), arrays_only="yes"),
        "arrays_only must be True or False, got 'yes'",
    ),
    "a path and a network the other way around": (
        lambda at: export_network(Own(), at / "new.zip"),
        "path must be a path, a string or an os.PathLike, got Own",
    ),
    "a class to export": (
        lambda at: export_network(at / "new.zip", Own, shape=[4, 4, 1]),
        "network must be a module or a function of images, got the class Own: make one first",
    ),
    "the other format's ending": (
        lambda at: export_network(at / "new.zip", Own(), format="onnx"),
        'path must not end in .zip with format "onnx", got new.zip: change one of them',
    ),
    "a platform twice": (
        lambda at: export_network(at / "new.zip", Own(), platforms=["cpu", "cpu"]),
        "platforms must be different ones, got ['cpu', 'cpu']",
    ),
    "no pixels to export": (
        lambda at: export_network(at / "new.zip", Own(), shape=[0, 4, 1]),
        "shape must be three integers of at least 1, [x, y, c], got [0, 4, 1]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SAVED)
def test_of_what_is_saved(case, folder):
    call, message = SAVED[case]
    with without_annotations(), pytest.raises((ValueError, OSError)) as caught:
        call(folder)
    raised = str(caught.value)
    assert raised.startswith(message.replace("@", str(folder))), raised
    assert "\n" not in raised and not [*folder.glob("new*"), *folder.glob(".*")]


COMMANDS = [
    (train, "--optimizer.epoch 3", "--optimizer.epochs"),
    (train, "--optimizer.epochs ten", "--optimizer.epochs must be INT, got ten. Passes over the training split."),
    (train, "--optimizer.class-weights heavy", "]]}, got heavy. Of the loss: balanced, inverse to"),
    (train, "--optimizer.name adamw", "--optimizer.name must be one of adam, sgd, got 'adamw'; perhaps adam."),
    (train, "--optimizer.momentum 0.5", "optimizer.momentum has no effect with optimizer.name adam: leave it out"),
    (train, "digits-z3", "got 'digits-z3'; perhaps digits-z2"),
    (train, "--model.name resnet50", "got 'resnet50'; perhaps resnet"),
    (train, "--model.attention cbm", "got 'cbm'; perhaps cbam"),
    (train, "--model.features 0", "features must be an integer of at least 1, got 0"),
    (train, "--model.attention sge --model.attention-options group=5", "sge has no argument 'group'; it takes groups"),
    (train, "--model.attention se --model.attention-options precision=high", "; give precision to the layer"),
    (
        train,
        "--model.attention response --model.attention-options memory_budget=1e9",
        "model.attention_options: memory_budget must be bytes, an integer of at least 1, such as 1_000_000_000, got 1",
    ),
    (
        train,
        "--model.attention response --model.implementation blocks",
        "got 'blocks'; of attention on responses: --model.attention-options implementation=blocks",
    ),
    (
        train,
        "digits-z2 --model.attention srm --optimizer.batch-size 1",
        "take larger batches, --model.attention-options norm=layer or norm=group",
    ),
    (
        train,
        "--model.name wide_resnet --model.downsampling stride",
        'got "stride"; or give --model.no-exact and give up exact equivariance',
    ),
    (train, "--model.name all_cnn --model.kernel-init kaiming", "--model.kernel-init"),
    (train, "--model.sampling.kind cubic", "model.sampling has no effect with model.group p4: leave it out, got "),
    (train, "--data.name cifar", "--data.name must be one of arrays, cifar10"),
    (train, "--data.path nowhere", "data.path must be a folder of class folders, or arrays in a .npz file, but no"),
    (train, "--data.name folder", "the data set folder needs data.path"),
    (train, "--data.name digits --data.path .", "data.path is of data.name folder or arrays, got digits"),
    (train, "--data.shares 0.5 0.2 0.2", "data.shares must be three positive numbers of the sum 1"),
    (train, "--data.shares 0.5 0.25 0.25", "data.shares has no effect with data.name digits: leave it out, got (0.5"),
    (train, "--data.size big", "--data.size must be {exact}|INT, got big. Pixels of the images"),
    (train, "--data.standardise False", "Unrecognized options: False; an option that is on or off takes no value"),
    (train, "--data.channelwise --data.no-standardise", "data.standardise: add --data.no-channelwise, or leave out"),
    (train, "--data.name cifar10/binary --data.directory @/former", "cifar10/binary needs data_batch_1.bin, "),
    (train, "--optimizer.patience 5", "optimizer.patience has no effect with optimizer.schedule cosine: leave it out"),
    (train, "--optimizer.schedule plateau --optimizer.patience 0", "optimizer.patience must be an integer of at leas"),
    (train, "--optimizer.schedule plateau --optimizer.patience 59", "optimizer.patience must be at most 58 for the le"),
    (train, "--data.channelwise", "data.channelwise is of images with several channels, and rotated digits (seed 0)"),
    (train, "--model.name wide_resnet --model.no-exact", "model.exact has no effect with model.downsampling pool: "),
    (train, "--augment.crop 28", "augment.crop must be less than the 28 pixels of the images, got 28"),
    (train, "--augment.crop 0.5", "--augment.crop must be INT, got 0.5. Pixels of background"),
    (train, "--augment.rotate 400", "augment.rotate must be in 0 to 180, got 400.0"),
    (train, "--augment.noise 0.1 --data.no-standardise", "augment.noise needs data.standardise"),
    (train, "--augment.flip maybe", "--augment.flip must be one of False, True, got 'maybe'"),
    (train, "--freeze body", "freeze body needs init_from: without it the body would stay random"),
    (train, "--workdir @/former", "@/former/run.json is of no run that this version can read: it lacks model.name"),
    (train, "--workdir @/file", "--workdir @/file is no folder: name another"),
    (train, "--workdir @/net", "--workdir @/net is not empty and holds no run: name another folder"),
    (evaluate, "", "Missing from python -m experiments.evaluate: PATH Work directory of a run"),
    (evaluate, "@/file", "path must be the folder of a run or of a saved network, got the file @/file"),
    (evaluate, "@/net", "@/net is a network without a run: name its data, for example --data digits"),
    (evaluate, "@/net --data digit", "got 'digit'; perhaps digits."),
    (evaluate, "@/net --data digits --seed 0", "--seed is of runs, and @/net is one network: leave it out"),
    (evaluate, "@/net --data digits --layer 3", "was trained on cell, dust, hair: choose other data"),
    (evaluate, "@/net --data arrays", "--data arrays needs --data-path, where the images are"),
    (evaluate, "@/net --data digits --out @/file", "out must be a folder, got the file @/file"),
    (evaluate, "@/net --data digits --beside @/file", "beside must be the folder of a run or of a saved network"),
    (evaluate, "@/net --images 0.5", "--images must be {None}|{[INT [INT ...]]}, got 0.5. Test images whose"),
    (evaluate, "@/broken --data digits", "@/broken/network.json is not JSON: Expecting property name"),
    (evaluate, "@/own --data digits", "@/own holds Own, a network of your own, which a command cannot make"),
    (predict, "@/net @ --top 4", "top must be at most 3, the classes of @/net, got 4"),
    (predict, "@/net @ --top many", "--top must be INT, got many. How many classes are told of a picture"),
    (predict, "@/own @", "@/own holds Own, a network of your own, which a command cannot make"),
    (predict, "@/nameless @", "@/nameless/network.json does not describe a network: class_names must be 3"),
    (predict, "@/net", "paths must be one or more pictures or folders, got none"),
    (export, "@/net", "Missing from python -m experiments.export: FILE To write"),
    (export, "@/net new.zip --format onxx", "--format must be one of onnx, stablehlo, got 'onxx'; perhaps onnx."),
    (export, "@/net new.onnx", 'path must not end in .onnx with format "stablehlo", got new.onnx'),
    (export, "@/net new.zip --platforms gpu", "--platforms must be one of cpu, cuda, tpu, got 'gpu'."),
    (export, "@/net new.zip --shape 28 28", "--shape must be {None}|{INT INT INT}, got 28 28. Of an image"),
    (export, "@/net new.zip --shape 28 28 2", "shape must have 1 channels, as the preprocessing, got (28, 28, 2)"),
    (export, "@/bare new.zip", "@/bare has no preprocessing, without which pixels would be"),
    (export, "@/broken new.zip", "@/broken/network.json is not JSON: Expecting property name"),
    (export, "@/own new.zip", "@/own holds Own, a network of your own, which a command cannot make"),
    (compare, "no-such-run", "no-such-run holds no run; train one with: python -m experiments.train"),
    (reproduce, "digits --budget 2hours", "budget must be a number and s, m, h or d, like 2h"),
    (pooling, "--windows 2 0", "windows must be at least 1, got 0"),
    (pooling, "--windows 57", "windows must be at most 56, the pixels of the feature maps, got 57"),
    (eager, "--names conf", "names must be among conv, "),
    (starts, "--commands", "commands must be one or more, got none: leave --commands out for all"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("command", "words", "message"), COMMANDS, ids=[f"{command.__name__} {words}" for command, words, _ in COMMANDS]
)
def test_on_the_command_line(command, words, message, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        command.cli(words.replace("@", str(folder)).split())
    assert stopped.value.code == 2
    printed, line = capsys.readouterr()
    assert "|" not in printed
    assert re.fullmatch(r"error: .*\n", line) and message.replace("@", str(folder)) in line
    assert not any(tmp_path.iterdir())


def test_numpy_integers_are_integers():
    with without_annotations():
        layer = GroupConv(np.int64(2), np.int32(3), np.int8(3), cyclic(np.int64(4)), padding=np.int64(1), rngs=rngs())
    assert jax.eval_shape(layer, jnp.zeros((1, 5, 5, 4, 2), jnp.float32)).shape == (1, 5, 5, 4, 3)


@pytest.mark.parametrize("end", ["('None', 'digits').", "('None', 'digits') │\n│ .", "('None', │\n│ 'digits')."])
def test_a_choice_is_named_however_tyro_breaks_the_line(end):
    page = f"╭─ Parsing error ─╮\n│ invalid choice 'digit' for argument '--data'. Expected one of {end} │\n╰──────╯"
    assert one_line(page) == "--data must be one of digits, got 'digit'; perhaps digits."
