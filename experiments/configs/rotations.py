"""Networks on 8 and 16 rotations, on rotated MNIST: how filters are turned by angles that the pixel grid lacks.

    python -m experiments.reproduce rotations --seeds 0 1 2

The network is that of the attentive paper's p4 row, about its number of parameters where filters are sums of
functions: 7 channels a group element on C8 and 5 on C16, and filters of 5x5 pixels. Free filters of as many channels
have more parameters. Oversampled rows have oversampled relus and antialiased pooling. Six epochs of 10,000 images, for
which a CPU has time, with Adam 2e-3 on a cosine, L2 1e-4, batch 64, dropout 0.1 after every layer but the second and
the last. No paper has these rows. That low-pass filters are the default was chosen on the first of them.
"""

from attgconv_jax import Sampling
from experiments.configs.preset import Preset, short_run
from experiments.run.configuration import OptimizerConfig
from experiments.run.model_configuration import model

OPTIMIZER = OptimizerConfig(learning_rate=2e-3, schedule="cosine", l2=1e-4, epochs=6, batch_size=64)
FEATURES = {"p4": (10,), "C8": (7,), "C16": (5,)}
SMOOTH = dict(oversampled=True, antialiased=True)

BILINEAR = Sampling("bilinear")
RINGS, LEAST_ERROR = Sampling("rings", lowpass=None), Sampling("least_error", lowpass=None)
LOWPASS = Sampling("least_error", lowpass=0.2)


def _row(group: str, title: str, sampling: Sampling, **settings) -> Preset:
    settings = dict(kernel_size=5, features=FEATURES[group], dropout_rate=0.1, sampling=sampling) | settings
    config = short_run(model("rot_mnist", group, "none", **settings), OPTIMIZER)
    name = "-".join(["rotations", group.lower(), *title.lower().replace(",", "").replace("_", "-").split()])
    return Preset(name, f"{group}, {title}", f"{group} convolutions, {title}, on rotated MNIST.", config)


ROWS = (
    _row("p4", "3x3 pixels", Sampling(), kernel_size=3),
    _row("C8", "bilinear", BILINEAR),
    _row("C8", "rings", RINGS),
    _row("C8", "least_error", LEAST_ERROR),
    _row("C8", "least_error, low-pass", LOWPASS),
    _row("C16", "bilinear", BILINEAR),
    _row("C16", "rings", RINGS),
    _row("C16", "least_error", LEAST_ERROR),
    _row("C8", "bilinear, oversampled", BILINEAR, **SMOOTH),
    _row("C8", "rings, oversampled", RINGS, **SMOOTH),
    _row("C8", "least_error, oversampled", LEAST_ERROR, **SMOOTH),
    _row("C8", "least_error, low-pass, oversampled", LOWPASS, **SMOOTH),
    _row("C16", "bilinear, oversampled", BILINEAR, **SMOOTH),
    _row("C16", "rings, oversampled", RINGS, **SMOOTH),
    _row("C16", "least_error, oversampled", LEAST_ERROR, **SMOOTH),
)
