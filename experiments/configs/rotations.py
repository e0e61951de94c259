"""Networks on 8 and 16 rotations, on rotated MNIST: how filters are turned by angles that the pixel grid lacks.

    python -m experiments.reproduce rotations --seeds 0 1 2

The network is that of the attentive paper's p4 row with 10 channels a group element everywhere, and filters of 5x5
pixels. Forty epochs of 10,000 images with Adam 2e-3 on a cosine, L2 1e-4, batch 128, dropout 0.1 after every layer but
the second and the last; nothing was chosen on the results. Filters of a basis have fewer parameters. No paper has these
rows.
"""

from attgconv_jax import Sampling
from experiments.configs.preset import Preset
from experiments.run.configuration import Config, DataConfig, OptimizerConfig
from experiments.run.model_configuration import model

OPTIMIZER = OptimizerConfig(learning_rate=2e-3, schedule="cosine", l2=1e-4, epochs=40, batch_size=128)

PERMUTATION, BILINEAR, CUBIC = Sampling(), Sampling("bilinear"), Sampling("cubic", disc_mask=True)
RINGS, LEAST_ERROR, LOWPASS = Sampling("rings"), Sampling("least_error"), Sampling("least_error", lowpass=0.2)


def _row(group: str, title: str, sampling: Sampling, **settings) -> Preset:
    settings = dict(kernel_size=5, features=(10,), dropout_rate=0.1, sampling=sampling) | settings
    config = Config(DataConfig("rot_mnist/regenerated"), model("rot_mnist", group, "none", **settings), OPTIMIZER)
    name = "-".join(["rotations", group.lower(), *title.lower().replace(",", "").replace("_", "-").split()])
    return Preset(name, f"{group}, {title}", f"{group} convolutions, {title}, on rotated MNIST.", config)


ROWS = (
    _row("p4", "3x3 pixels", PERMUTATION, kernel_size=3),
    _row("p4", "5x5 pixels", PERMUTATION),
    _row("C8", "3x3 bilinear", BILINEAR, kernel_size=3),
    _row("C8", "3x3 least_error", LEAST_ERROR, kernel_size=3),
    _row("C8", "bilinear", BILINEAR),
    _row("C8", "cubic", CUBIC),
    _row("C8", "rings", RINGS),
    _row("C8", "least_error", LEAST_ERROR),
    _row("C8", "least_error low-pass", LOWPASS),
    _row("C16", "bilinear", BILINEAR),
    _row("C16", "rings", RINGS),
    _row("C16", "least_error", LEAST_ERROR),
    _row("C16", "least_error low-pass", LOWPASS),
)
