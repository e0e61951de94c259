"""Attention operators beside each other: p4 networks on rotated MNIST with one operator each and equal parameters.

Channels, hidden channels and attention filters are chosen so that all networks have 25,156 to 25,648 parameters. Two
epochs, not the hundred of the papers, and the first 10,000 test images, because there was a CPU: what an operator gains
in a long run these figures do not say. Adam 2e-3 on a cosine, L2 1e-4, batch 128, dropout 0.1 after every layer but the
second and the last; nothing was chosen on the results.
"""

from collections.abc import Callable
from typing import NamedTuple

from experiments.run.configuration import Config, DataConfig, OptimizerConfig
from experiments.run.model_configuration import Attention, ModelConfig

SHORT_OPTIMIZER = OptimizerConfig(learning_rate=2e-3, schedule="cosine", l2=1e-4, epochs=2, batch_size=128)

# Of networks whose operator has few parameters or none.
WIDER = (8, 12, 10, 10, 10, 10)


class Row(NamedTuple):
    """An operator, what it is called in full, and what makes the parameters equal."""

    attention: Attention
    title: str
    options: tuple[str, ...] = ()
    features: tuple[int, ...] = (10,)


OPERATOR_ROWS = (
    Row("none", "No attention", (), WIDER),
    Row("co", "Co-attention", (), WIDER),
    Row("se", "Squeeze-and-Excitation", ("reduction=10",)),
    Row("ge", "Gather-Excite without parameters", ("excite=False",), WIDER),
    Row("srm", "Style-based Recalibration"),
    Row("eca", "Efficient channel attention", (), WIDER),
    Row("gc", "Global Context", ("reduction=2", "over_group=True")),
    Row("sge", "Spatial Group-wise Enhance", (), WIDER),
    Row("coordinate", "Coordinate attention", ("reduction=10",)),
    Row("cbam", "CBAM", ("reduction=10", "kernel_size=3")),
    Row("input", "alpha_F", ("hidden_features=1", "kernel_size=3")),
    Row("bam", "BAM", ("reduction=10", "over_group=True")),
    Row("sk", "Selective Kernel", ("reduction=3",), (8, 8, 7, 7, 7, 7)),
    Row("non_local", "Non-local attention", ("reduction=10",)),
    Row("self", "Group self-attention", ("reduction=5", "kernel_size=3")),
    Row("response", "alpha", ("hidden_features=1", "attention_kernel_size=5"), (7,)),
)


# Test error over the seeds 0 to 2, best on validation / last epoch / best on test, and minutes of training.
OURS = {
    "bam": ("14.05 ± 0.30 / 14.05 ± 0.30 / 14.05 ± 0.30 %", "2 minutes"),
    "cbam": ("8.15 ± 0.37 / 8.15 ± 0.37 / 8.15 ± 0.37 %", "3 minutes"),
    "co": ("12.18 ± 0.77 / 12.18 ± 0.77 / 12.18 ± 0.77 %", "2 minutes"),
    "coordinate": ("11.32 ± 1.02 / 11.32 ± 1.02 / 11.32 ± 1.02 %", "3 minutes"),
    "eca": ("9.56 ± 0.52 / 9.56 ± 0.52 / 9.56 ± 0.52 %", "2 minutes"),
    "gc": ("11.26 ± 1.07 / 11.26 ± 1.07 / 11.26 ± 1.07 %", "4 minutes"),
    "ge": ("15.27 ± 5.05 / 15.27 ± 5.05 / 15.27 ± 5.05 %", "2 minutes"),
    "input": ("11.49 ± 2.59 / 11.49 ± 2.59 / 11.49 ± 2.59 %", "3 minutes"),
    "non_local": ("12.32 ± 0.90 / 12.32 ± 0.90 / 12.32 ± 0.90 %", "6 minutes"),
    "none": ("14.03 ± 2.54 / 14.03 ± 2.54 / 14.03 ± 2.54 %", "2 minutes"),
    "response": ("15.34 ± 1.24 / 15.34 ± 1.24 / 15.34 ± 1.24 %", "7 minutes"),
    "se": ("9.82 ± 0.78 / 9.82 ± 0.78 / 9.82 ± 0.78 %", "2 minutes"),
    "self": ("11.22 ± 0.86 / 11.22 ± 0.86 / 11.22 ± 0.86 %", "9 minutes"),
    "sge": ("12.69 ± 2.98 / 12.69 ± 2.98 / 12.69 ± 2.98 %", "3 minutes"),
    "sk": ("24.29 ± 4.42 / 24.29 ± 4.42 / 24.29 ± 4.42 %", "5 minutes"),
    "srm": ("10.90 ± 1.68 / 10.90 ± 1.68 / 10.90 ± 1.68 %", "2 minutes"),
}


def _preset(row: Row) -> Callable[[], Config]:
    def preset():
        return Config(
            data=DataConfig("rot_mnist/regenerated", test_images=10_000),
            model=ModelConfig("p4", row.attention, attention_options=row.options, features=row.features),
            optimizer=SHORT_OPTIMIZER,
            test_every=SHORT_OPTIMIZER.epochs,
        )

    ours, minutes = OURS[row.attention]
    preset.__name__ = f"operators_{row.attention}"
    preset.__doc__ = f"""{row.title} on rotated MNIST, a short run.

    Paper: has no such row
    Ours: {ours}
    Time: {minutes}
    Command: python -m experiments.train {preset.__name__.replace("_", "-")}
    """
    return preset


ROWS = tuple(_preset(row) for row in OPERATOR_ROWS)

PAPER: dict = {}
"""No paper has these figures."""
