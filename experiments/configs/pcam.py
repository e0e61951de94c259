"""PatchCamelyon: the rows of the attentive paper, from the set that TFDS prepares. They are for a GPU.

    python -m experiments.reproduce pcam --directory DATA --budget 7d

Protocol of the reference: Adam 1e-3, halved by PyTorch's `ReduceLROnPlateau` of patience 20, L2 1e-4 added to the
gradient, batch 64, 100 epochs, no augmentation, every channel standardised; the published split validates, and the
epoch best there is tested. The rate falls there at the 21st epoch in a row without better validation accuracy, which is
a patience of 21 here. One thing differs: there an accuracy is better only where it exceeds the best by a ten-thousandth
of that, about 3 images of the split; here one image is enough.

No figure of the paper stands here: the network that its authors released as alpha_F-p4m is a p4m network.
"""

from experiments.configs.preset import Preset
from experiments.run.configuration import Config, DataConfig, OptimizerConfig
from experiments.run.model_configuration import model

DATA = DataConfig("patch_camelyon", channelwise=True)
OPTIMIZER = OptimizerConfig(learning_rate=1e-3, schedule="plateau", patience=21, l2=1e-4, epochs=100, batch_size=64)


def _row(title: str, group: str, attention: str = "none") -> Preset:
    what = f"DenseNet on {title}" if attention == "none" else f"DenseNet with {title}, attention on the input,"
    config = Config(DATA, model("densenet", group, attention), OPTIMIZER)
    name = f"pcam-{title.lower().replace('_', '-')}"
    return Preset(name, f"DenseNet, {title}", f"{what} on PatchCamelyon (Romero et al. 2020).", config)


ROWS = (
    _row("Z2", "z2"),
    _row("p4", "p4"),
    _row("p4m", "p4m"),
    _row("alpha_F-p4", "p4", "input"),
    _row("alpha_F-p4m", "p4m", "input"),
)
