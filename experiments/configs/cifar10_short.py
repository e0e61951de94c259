"""CIFAR-10 in a short run for a CPU: All-CNN-C at an eighth of the width, five epochs. No paper has these rows.

    python -m experiments.reproduce cifar10-short --directory cifar-10-batches-bin --seeds 0 1 --budget 3h

Data and augmentation are those of `cifar10`, the budget of every row is the same: SGD of momentum 0.9, rate 0.05 on a
cosine, L2 5e-4, batch 128, and no dropout, which networks of this width and five epochs have no use for. What a
network gains in a long run such figures do not say.

Networks on groups start from the published filters, uniform with 0.035 times the usual bound, from which the p4 network
learns slowly at this rate. The rows with "He" start all networks from he_normal instead; they were added when the rows
without were known.
"""

from experiments.configs.cifar10 import AUGMENTATION, DATA
from experiments.configs.preset import Preset
from experiments.run.configuration import Config, OptimizerConfig
from experiments.run.model_configuration import model

OPTIMIZER = OptimizerConfig("sgd", learning_rate=0.05, schedule="cosine", l2=5e-4, epochs=5, batch_size=128)


def _row(title: str, group: str, features: int, attention: str = "none", kernel_init: str | None = None) -> Preset:
    options = dict(features=features, input_dropout_rate=0.0, dropout_rate=0.0, kernel_init=kernel_init)
    network = model("all_cnn", group, attention, **options)
    config = Config(DATA, network, OPTIMIZER, AUGMENTATION, test_every=OPTIMIZER.epochs)
    name = f"cifar10-short-{title.lower().replace('_', '-').replace(', ', '-')}"
    return Preset(name, title, f"All-CNN-C, an eighth as wide, {title}, on CIFAR-10, a short run.", config)


ROWS = (
    _row("Z2", "z2", 12),
    _row("p4", "p4", 6),
    _row("alpha_F-p4", "p4", 6, "input"),
    _row("Z2, He", "z2", 12, kernel_init="he_normal"),
    _row("p4, He", "p4", 6, kernel_init="he_normal"),
    _row("alpha_F-p4, He", "p4", 6, "input", kernel_init="he_normal"),
)
