"""Attention on top of separable kernels: small residual networks on SE(2) with 8 rotations, on rotated MNIST.

A quarter of the paper's channels, three epochs and the first 10,000 test images, for a CPU's time: what
attention gains in a long run such figures do not say. Adam 1e-3 on a cosine, L2 1e-4, batch 16, dropout 0.3 before the
logits, new random grids in every step. On the first network's validation error the batch was chosen (at 64 it was left
at 23 % after two epochs), and the learning rate kept after one epoch of others (88 % at 3e-3, 38 % at 3e-4, 44 % at
1e-3, means of three seeds). Networks with nonseparable kernels, and with smoother separable ones, stand beside them.
No paper has these rows.
"""

from attgconv_jax import Sampling
from experiments.configs.preset import Preset, short_run
from experiments.run.configuration import OptimizerConfig
from experiments.run.model_configuration import model

# Of the attention's filters, when their results were measured.
BILINEAR = Sampling("bilinear")

SHORT_OPTIMIZER = OptimizerConfig(learning_rate=1e-3, schedule="cosine", l2=1e-4, epochs=3, batch_size=16)


def _row(name: str, title: str, attention: str = "none", options: tuple[str, ...] = (), **settings) -> Preset:
    """A row of the table; further settings are those of the network."""
    shared = dict(dropout_rate=0.3, features=(8, 8, 16), random_grids=True)
    network = model("lie_resnet", "SE2-8", attention, attention_options=options, **shared, **settings)
    summary = f"{title}, SE(2) with 8 rotations, on rotated MNIST, a short run."
    return Preset(f"lie-attention-{name}", title, summary, short_run(network, SHORT_OPTIMIZER))


ROWS = (
    _row("none", "Separable kernels"),
    _row("nonseparable", "Nonseparable kernels", kind="nonseparable"),
    _row("smooth", "Separable kernels, first frequency 7", network_options=("first_frequency=7",)),
    _row("sge", "Separable kernels and Spatial Group-wise Enhance", "sge", ("groups=4",)),
    _row("se", "Separable kernels and Squeeze-and-Excitation", "se", ("reduction=4",)),
    _row("cbam", "Separable kernels and CBAM", "cbam", ("reduction=4", "kernel_size=7"), sampling=BILINEAR),
    _row("input", "Separable kernels and attention on the input", "input", sampling=BILINEAR),
)
