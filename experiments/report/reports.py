"""What a run comes to: errors under three protocols, equivariance, time; its networks, and its attention drawn."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from attgconv_jax import cyclic, equivariance_error, plotting
from attgconv_jax.groups import Group
from attgconv_jax.models import save_network
from experiments.data import Dataset
from experiments.report.classes import per_class
from experiments.report.measures import batch_for, confusion, equivariance_images, measured_group
from experiments.run.configuration import steps_per_epoch
from experiments.run.evaluation import predict
from experiments.run.feeding import count_errors
from experiments.run.loop import Best, Spent, percent
from experiments.run.training import Trainer, TrainState
from experiments.run.workdir import Run


def report_of(
    run: Run, trainer: Trainer, state: TrainState, best: Best, dataset: Dataset, spent: Spent
) -> dict[str, Any]:
    """The figures of a run, complete or not, on its data or others, standardised; lists hold one entry a seed.

    The run's description and, by protocol, the error on every split in percent; the equivariance error of the logits of
    the networks best on validation, over `measured_group`, and on how many test images; of the same what `per_class`
    says; seconds; numbers of parameters.
    """
    config, described = run.config(), run.description["data"]
    per_epoch = steps_per_epoch(config, int(described["train_images"]))
    epoch, step = divmod(int(state.step[0]), per_epoch)
    networks = [trainer.network(best.params, best.rest, i) for i in range(len(config.seeds))]
    group, count = measured_group(config.model.parsed_group()), equivariance_images(networks[0], dataset)
    images, batch_size = jnp.asarray(dataset.test.images[:count]), batch_for(dataset, count)
    best_errors = errors(trainer, best.params, best.rest, dataset)
    # A network that is the best and the last is not tested twice.
    same = not step and set(best.epoch.tolist()) == {epoch}
    last_errors = best_errors if same else errors(trainer, *trainer.evaluated(state), dataset)
    last = [epoch + round(step / per_epoch, 2) if step else epoch] * len(config.seeds)
    report = run.description | {
        "data": dict(dataset.provenance),
        "best_on_validation": {"epoch": best.epoch.tolist(), "error_percent": best_errors},
        "last_epoch": {"epoch": last, "error_percent": last_errors},
        "equivariance_error": [
            equivariance_error(
                lambda x, n=network: jnp.asarray(predict(n, x, batch_size)), images, group, output="invariant"
            )
            for network in networks
        ],
        "equivariance_images": count,
        "classes": per_class(
            [confusion(predict(network, dataset.test.images), dataset) for network in networks], dataset.class_names
        ),
        "parameters": sum(leaf[0].size for leaf in jax.tree.leaves(state.params)),
        **{f"{name}_seconds": seconds for name, seconds in spent._asdict().items()},
    }
    if report["data"] == described:
        # What stands between two epochs is no epoch's network.
        tested = [report["best_on_validation"], *([] if step else [report["last_epoch"]])]
        report["best_on_test"] = best_on_test(run.metrics(), tested)
    return report


def errors(trainer: Trainer, params: Any, rest: Any, dataset: Dataset) -> dict[str, list[float]]:
    """The error of all seeds' networks on every split of a standardised set in percent, a list over seeds each."""
    return {
        name: percent(count_errors(trainer, params, rest, split)[0], len(split))
        for name, split in dataset.splits().items()
    }


def best_on_test(metrics: list[dict[str, Any]], networks: list[dict[str, Any]]) -> dict[str, Any]:
    """The epoch with the lowest test error, the earliest of equals: as the papers chose theirs.

    It is the best of those in `metrics`, and of other networks that were tested, by `epoch` and `error_percent`.
    """
    known = [
        {record["epoch"]: record["test_error_percent"][seed] for record in metrics if "test_error_percent" in record}
        | {network["epoch"][seed]: network["error_percent"]["test"][seed] for network in networks}
        for seed in range(len(networks[0]["epoch"]))
    ]
    best = [min(errors.items(), key=lambda pair: (pair[1], pair[0])) for errors in known]
    return {
        "epoch": [epoch for epoch, _ in best],
        "error_percent": {"test": [error for _, error in best]},
        "epochs_measured": [len(errors) for errors in known],
    }


def save_networks(
    run: Run, trainer: Trainer, state: TrainState, best: Best, dataset: Dataset, report: Mapping[str, Any]
) -> None:
    """Writes the last and the best network of every seed to `networks/`, unless they are there.

    With them go what the dataset, standardised, knows of its pixels and classes, and their epoch and errors from
    `report_of`.
    """
    for i, seed in enumerate(run.config().seeds):
        for name, (protocol, params, rest) in {
            "last": ("last_epoch", *trainer.evaluated(state)),
            "best": ("best_on_validation", best.params, best.rest),
        }.items():
            path = run.workdir / "networks" / f"seed-{seed}-{name}"
            if not path.exists():
                errors_by_split = {split: each[i] for split, each in report[protocol]["error_percent"].items()}
                save_network(
                    path,
                    trainer.network(params, rest, i),
                    preprocessing=dataset.preprocessing,
                    class_names=dataset.class_names,
                    metrics={"epoch": report[protocol]["epoch"][i], "error_percent": errors_by_split},
                )


def draw_attention(
    network: nnx.Module,
    dataset: Dataset,
    path: pathlib.Path,
    images: Sequence[int] | None = None,
    layer: int | None = None,
) -> list[pathlib.Path]:
    """Draws what the network suppresses in test images under four rotations, if it has attention on a finite group.

    Of attention on responses also, to `NAME-pairs.SUFFIX` beside it, what it suppresses of the first image between
    group elements: in the second layer if `layer` is the first, whose input has but one.

    Args:
      network: of the registry, in evaluation mode.
      dataset: standardised; images are shown as they were before.
      path: of the picture.
      images: which test images; None: the first three, or as many as there are.
      layer: whose attention, from 0; None: the first that has attention.

    Returns:
      The paths of the pictures that were written.
    """
    if not (isinstance(network.group, Group) and network.attending_layers):
        return []
    images = range(min(3, len(dataset.test))) if images is None else images
    chosen = jnp.asarray(dataset.test.images[np.array(images)])
    look = dict(unstandardise=dataset.unstandardised)
    plotting.attention_figure(network, chosen, cyclic(4), layer=layer, **look).savefig(path, dpi=150)
    if not network.settings["attention"].startswith("response"):
        return [path]
    pairs = path.with_name(f"{path.stem}-pairs{path.suffix}")
    plotting.response_figure(network, chosen[0], layer=max(1, layer or 0), **look).savefig(pairs, dpi=150)
    return [path, pairs]
