"""A preset: a configuration with its name, what it is called in tables, and the paper's figure."""

import dataclasses
import json
import pathlib
from typing import Any

from experiments.report.markdown import protocols
from experiments.run.configuration import Config, DataConfig, OptimizerConfig
from experiments.run.model_configuration import ModelConfig

RESULTS = pathlib.Path(__file__).parents[1] / "results"
"""Figures of runs that were measured, a folder a table and a file a run."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """A row of a table: its name on the command line, its title in tables, and a sentence on it."""

    name: str
    title: str
    summary: str
    config: Config
    paper: str = "-"
    """The paper's test error in percent on its own test set, of the epoch best there; "-": not recorded here."""

    @property
    def description(self) -> str:
        """Summary, the paper's figure, ours where `results` has one, and the command."""
        paper = "not recorded here" if self.paper == "-" else f"{self.paper} %"
        ours = [_summary(report) for report in reports(name=self.name) if report["preset"] == self.name]
        lines = [self.summary, "", f"Paper: {paper}", *(f"Ours: {figures}" for figures in ours or ["not run yet"])]
        return "\n".join([*lines, f"Command: python -m experiments.train {self.name}"])


def short_run(network: ModelConfig, optimizer: OptimizerConfig) -> Config:
    """A run on rotated MNIST for a CPU's time, which is tested at its end on the first 10,000 images."""
    data = DataConfig("rot_mnist/regenerated", test_images=10_000)
    return Config(data, network, optimizer, test_every=optimizer.epochs)


def reports(table: str = "*", name: str = "", results: pathlib.Path | None = None) -> list[dict[str, Any]]:
    """The reports of runs in a folder of results, ours by default: of one table or all, of names that begin so."""
    found = {path: json.loads(path.read_text()) for path in sorted((results or RESULTS).glob(f"{table}/{name}*.json"))}
    for path, report in found.items():
        if "preset" not in report:
            raise ValueError(f"{path} holds no figures of this table: move it elsewhere")
    return list(found.values())


def _summary(report):
    seeds, minutes = report["config"]["seeds"], report["training_seconds"] / 60
    return (
        f"{' / '.join(protocols(report))} % (best on validation / last epoch / best on test), seeds "
        f"{' '.join(map(str, seeds))}, {minutes:.0f} minutes of training on {report['cpu_count']} CPU cores"
    )
