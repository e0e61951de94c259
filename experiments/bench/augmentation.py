"""What augmentation adds to a training step: `python -m experiments.bench.augmentation`.

The rot-MNIST network on p4 with images changed at random in every step, and without, taken in turn. Medians; saved as
JSON. Let nothing else run beside it.
"""

import dataclasses

from experiments.augmentation import AugmentConfig
from experiments.bench import common
from experiments.bench.steps import trainer_step
from experiments.report.markdown import Column
from experiments.run.model_configuration import model
from experiments.run.runtime import command

GEOMETRY = dict(rotate=180, flip=True, shift=0.1, scale=(0.8, 1.25))
PIXELS = dict(contrast=0.2, brightness=0.2, noise=0.1, cutout=0.3)
CASES = {"none": {}, "rotate": dict(rotate=180), "noise": dict(noise=0.1), "all": dict(mixup=0.2, **GEOMETRY, **PIXELS)}
COLUMNS: dict[str, Column] = {"augmentation": ("augmentation", ""), "step (ms)": ("step_ms", ".2f")}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures what augmentation adds to a training step on the device at hand."""

    batch_size: common.BatchSize = 64
    steps: common.Steps = 10
    repeats: common.Repeats = 15


def main(arguments: Arguments) -> None:
    """Measures the cases in turn, prints a table and saves the figures."""
    network, count = model("rot_mnist", "p4"), (arguments.steps, arguments.repeats)
    steps = [trainer_step(network, arguments.batch_size, *count, AugmentConfig(**case)) for case in CASES.values()]
    for step in steps:
        step.compile()
    seconds = common.median_seconds_in_turn(steps, arguments.repeats)
    results = common.Results("augmentation", arguments.out, COLUMNS, batch_size=arguments.batch_size, rows=[])
    for name, time in zip(CASES, seconds, strict=True):
        results.add({"augmentation": name, "step_ms": 1e3 * time / arguments.steps})


cli = command(main, Arguments)
