"""Attention operators beside each other: p4 networks on rotated MNIST with one operator each and equal parameters.

Channels, hidden channels and attention filters are chosen so that all networks have 25,156 to 25,648 parameters. Two
epochs, not the hundred of the papers, and the first 10,000 test images, because there was a CPU: what an operator gains
in a long run these figures do not say. Adam 2e-3 on a cosine, L2 1e-4, batch 128, dropout 0.1 after every layer but the
second and the last; nothing was chosen on the results. No paper has these rows.
"""

from experiments.configs.preset import Preset, short_run
from experiments.run.configuration import OptimizerConfig
from experiments.run.model_configuration import model

SHORT_OPTIMIZER = OptimizerConfig(learning_rate=2e-3, schedule="cosine", l2=1e-4, epochs=2, batch_size=128)

# Of networks whose operator has few parameters or none.
WIDER = (8, 12, 10, 10, 10, 10)


def _row(attention: str, title: str, options: tuple[str, ...] = (), features: tuple[int, ...] = (10,)) -> Preset:
    network = model("rot_mnist", "p4", attention, attention_options=options, features=features, dropout_rate=0.1)
    name = f"operators-{attention.replace('_', '-')}"
    return Preset(name, title, f"{title} on rotated MNIST, a short run.", short_run(network, SHORT_OPTIMIZER))


ROWS = (
    _row("none", "No attention", (), WIDER),
    _row("co", "Co-attention", (), WIDER),
    _row("se", "Squeeze-and-Excitation", ("reduction=10",)),
    _row("ge", "Gather-Excite without parameters", ("excite=False",), WIDER),
    _row("srm", "Style-based Recalibration"),
    _row("eca", "Efficient channel attention", (), WIDER),
    _row("gc", "Global Context", ("reduction=2", "over_group=True")),
    _row("sge", "Spatial Group-wise Enhance", (), WIDER),
    _row("coordinate", "Coordinate attention", ("reduction=10",)),
    _row("cbam", "CBAM", ("reduction=10", "kernel_size=3")),
    _row("input", "alpha_F", ("hidden_features=1", "kernel_size=3")),
    _row("bam", "BAM", ("reduction=10", "over_group=True")),
    _row("sk", "Selective Kernel", ("reduction=3",), (8, 8, 7, 7, 7, 7)),
    _row("non_local", "Non-local attention", ("reduction=10",)),
    _row("self", "Group self-attention", ("reduction=5", "kernel_size=3")),
    _row("response", "alpha", ("hidden_features=1", "attention_kernel_size=5"), (7,)),
)
