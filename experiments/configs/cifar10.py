"""CIFAR-10: the rows of the attentive paper, from the binary files. They are for a GPU.

    python -m experiments.reproduce cifar10 --directory cifar-10-batches-bin --budget 1d

Protocol of the reference: SGD of momentum 0.9, rate 0.05 (the paper took the best of 0.01, 0.05, 0.1 and 0.25), a tenth
after 200, 250 and 300 of 350 epochs, L2 1e-3 added to the gradient, batch 128; ResNet-44: this rate alone, a tenth
after 50, 100 and 150 of 300 epochs, no L2. Training images are mirrored at random and moved by up to 4 pixels amid
black. It trained on all 50,000 images, standardised by ImageNet's mean and deviation of every channel, and chose the
epoch on the test set; here 45,000 train, standardised by their own, 5,000 choose, and the figures of all three
protocols stand side by side. Strides of 2 are pooling, as in the paper's table.

The paper's figure of alpha_F-p4m is the error of the network that its authors released, one seed, the best epoch on the
test split.
"""

from experiments.augmentation import AugmentConfig
from experiments.configs.preset import Preset
from experiments.run.configuration import Config, DataConfig, OptimizerConfig
from experiments.run.model_configuration import ModelConfig, model

DATA = DataConfig("cifar10/binary", channelwise=True)
AUGMENTATION = AugmentConfig(mirror=True, crop=4)
ALL_CNN_OPTIMIZER = OptimizerConfig(
    "sgd", learning_rate=0.05, schedule="step", milestones=(200, 250, 300), l2=1e-3, epochs=350, batch_size=128
)
RESNET_OPTIMIZER = OptimizerConfig(
    "sgd", learning_rate=0.05, schedule="step", milestones=(50, 100, 150), l2=0.0, epochs=300, batch_size=128
)


def _row(
    network: str, title: str, config: ModelConfig, optimizer: OptimizerConfig, of_network: str, paper: str
) -> Preset:
    what = f"{network} on {title}" if config.attention == "none" else f"{network} with {title}, attention on the input,"
    name = f"cifar10-{of_network}-{title.lower().replace('_', '-')}"
    summary = f"{what} on CIFAR-10 (Romero et al. 2020)."
    return Preset(name, f"{network}, {title}", summary, Config(DATA, config, optimizer, AUGMENTATION), paper)


def _all_cnn(title: str, group: str, attention: str = "none", paper: str = "-") -> Preset:
    return _row("All-CNN-C", title, model("all_cnn", group, attention), ALL_CNN_OPTIMIZER, "all-cnn", paper)


def _resnet(title: str, group: str, attention: str = "none", paper: str = "-") -> Preset:
    return _row("ResNet-44", title, model("cifar_resnet", group, attention), RESNET_OPTIMIZER, "resnet-44", paper)


ROWS = (
    _all_cnn("Z2", "z2"),
    _all_cnn("p4", "p4"),
    _all_cnn("p4m", "p4m"),
    _all_cnn("alpha_F-p4", "p4", "input"),
    _all_cnn("alpha_F-p4m", "p4m", "input", "6.53"),
    _resnet("Z2", "z2"),
    _resnet("p4m", "p4m"),
    _resnet("alpha_F-p4m", "p4m", "input"),
)
