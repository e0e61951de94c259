"""Trains several networks the same way over several seeds: `python -m experiments.compare`.

Writes every run's figures to a JSON file and prints a table of mean and deviation, for example

    python -m experiments.compare --networks z2:none p4:input --seeds 0 1 2 3 4

which takes about eight minutes on two CPU cores. The figure is the test error after the last epoch; nothing is chosen
on the test split.
"""

import dataclasses
import json
import pathlib
import statistics
import time

from experiments.config import Config, DataConfig, ModelConfig, OptimizerConfig
from experiments.data import rotated_digits
from experiments.runtime import describe_device, new_file, run, use_compilation_cache
from experiments.train import train


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Compares networks trained the same way on rotated digits."""

    networks: tuple[str, ...] = ("z2:none", "p4:none", "p4:input", "p4:co")
    """Group and attention of each network."""

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Of initialisation, shuffling and dropout; the data set is the same for all."""

    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    dropout_rate: float = ModelConfig.dropout_rate
    """Of all networks."""

    out: pathlib.Path = pathlib.Path("experiments/results/rotated_digits.json")
    """File for the figures; an existing one is replaced."""


def main(arguments: Arguments) -> None:
    """Trains all networks and writes the figures after every run."""
    configs = [_config(arguments, name, seed) for name in arguments.networks for seed in arguments.seeds]
    new_file(arguments.out)
    use_compilation_cache()
    dataset = rotated_digits(arguments.data.seed).standardised()
    results = {"date": time.strftime("%Y-%m-%d"), "data": dataset.name, **describe_device(), "runs": []}
    for config in configs:
        _, report = train(config, dataset)
        results["runs"].append({"config": dataclasses.asdict(config), **report})
        arguments.out.write_text(json.dumps(results, indent=2) + "\n")
    print(table(results))


def table(results: dict) -> str:
    """The figures as a Markdown table: a row a network."""
    rows = {}
    for report in results["runs"]:
        model = report["config"]["model"]
        rows.setdefault((model["group"], model["attention"]), []).append(report)
    lines = [
        "| group | attention | test error, mean ± deviation (%) | validation error (%) | equivariance error | seeds |",
        "|---|---|---|---|---|---|",
    ]
    for (group, attention), runs in rows.items():
        test, validation = ([run["error_percent"][split] for run in runs] for split in ("test", "validation"))
        deviation = f" ± {statistics.stdev(test):.2f}" if len(test) > 1 else ""
        worst = max(run["equivariance_error"] for run in runs)
        lines.append(
            f"| {group} | {attention} | {statistics.mean(test):.2f}{deviation} | {statistics.mean(validation):.2f} | "
            f"{worst:.0e} | {len(runs)} |"
        )
    return "\n".join(lines)


def _config(arguments, name, seed):
    group, separator, attention = name.partition(":")
    if not separator:
        raise ValueError(f"a network is given as GROUP:ATTENTION, like p4:input, got {name!r}")
    model = ModelConfig(group=group, attention=attention, dropout_rate=arguments.dropout_rate)
    return Config(data=arguments.data, model=model, optimizer=arguments.optimizer, seed=seed)


def cli(arguments: list[str] | None = None) -> None:
    """The command line; what the user got wrong is one line on stderr and exit code 2."""
    run(main, Arguments, arguments, prog="python -m experiments.compare")


if __name__ == "__main__":
    cli()
