"""Training steps beside the attentive paper's own code: `python -m experiments.bench.reference att_gconvs`.

The argument is a checkout of github.com/dwromero/att_gconvs. Its networks for CIFAR-10 and PatchCamelyon and ours start
from the weights that theirs draws; logits in evaluation mode must agree. Then a training step of each in turn in one
process (forward, backward, SGD with momentum), with pauses in which the other library's threads go to sleep; medians.
Let nothing else run beside it. Saved as JSON. PyTorch takes an environment of its own; the first lines of
`experiments.bench.inference` say how to make one.
"""

import dataclasses
import functools
import importlib
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import optax
import tyro

import experiments
from attgconv_jax.interop import load_reference
from experiments.bench import common
from experiments.bench.pytorch import import_torch, largest_difference
from experiments.bench.steps import Case, bare_step
from experiments.report.markdown import Column
from experiments.run.checks import chosen
from experiments.run.runtime import command

TOLERANCE = 1e-3
"""By which logits may differ, in units of the largest."""
RATE, MOMENTUM = 0.05, 0.9


class Reference(NamedTuple):
    """A network of theirs: module and class, arguments, size of its images."""

    module: str
    name: str
    settings: Mapping[str, Any]
    size: int


_CIFAR, _PCAM = "experiments.cifar10.models", "experiments.pcam.models.densenet"
_ALL_CNN, _RESNET = f"{_CIFAR}.allcnnc", f"{_CIFAR}.resnet"
NETWORKS = {
    "z2_allcnnc": Reference(_ALL_CNN, "AllCNNC", {}, 32),
    "p4_allcnnc": Reference(_ALL_CNN, "P4AllCNNC", {}, 32),
    "p4m_allcnnc": Reference(_ALL_CNN, "P4MAllCNNC", {}, 32),
    "f_att_p4_allcnnc": Reference(_ALL_CNN, "fA_P4AllCNNC", {}, 32),
    "f_att_p4m_allcnnc": Reference(_ALL_CNN, "fA_P4MAllCNNC", {}, 32),
    "p4m_resnet44": Reference(_RESNET, "P4MResNet", {}, 32),
    "f_att_p4m_resnet44": Reference(_RESNET, "fA_P4MResNet", {}, 32),
    "p4_densenet": Reference(_PCAM, "P4DenseNet", {"n_channels": 13}, 96),
    "p4m_densenet": Reference(_PCAM, "P4MDenseNet", {"n_channels": 9}, 96),
    "f_att_p4_densenet": Reference(_PCAM, "fA_P4DenseNet", {"n_channels": 13}, 96),
}

COLUMNS: dict[str, Column] = {
    "network": ("network", ""),
    "parameters": ("parameters", ","),
    "ours (ms)": ("ours_ms", ".0f"),
    "theirs (ms)": ("theirs_ms", ".0f"),
    "ratio": (lambda row: row["ours_ms"] / row["theirs_ms"], ".2f"),
}


@dataclasses.dataclass(frozen=True)
class Arguments(common.Arguments):
    """Measures training steps beside the attentive paper's own code."""

    checkout: Annotated[pathlib.Path, tyro.conf.Positional] = pathlib.Path("att_gconvs")
    """Folder of the paper's code."""
    networks: common.Networks = ()
    batch_size: common.BatchSize = 32
    repeats: common.Repeats = 5


def main(arguments: Arguments) -> None:
    """Measures the networks, prints a table and saves the figures."""
    names = chosen("networks", arguments.networks, NETWORKS)
    if not (arguments.checkout / "attgconv").is_dir():
        raise ValueError(f"checkout must be a folder of github.com/dwromero/att_gconvs, got {arguments.checkout}")
    torch = import_torch()
    makers = {name: _maker(arguments.checkout, NETWORKS[name]) for name in names}
    about = {"pytorch": torch.__version__, "pytorch_threads": torch.get_num_threads()}
    results = common.Results(
        "reference",
        arguments.out,
        COLUMNS,
        **about,
        batch_size=arguments.batch_size,
        repeats=arguments.repeats,
        rows=[],
    )
    for name in names:
        results.add({"network": name} | measure(name, makers[name], arguments.batch_size, arguments.repeats))


def _maker(checkout, reference):
    """Makes their network. Their package has the name of this one, which finds their modules beside its own."""
    for path, folder in ((experiments.__path__, checkout / "experiments"), (sys.path, checkout)):
        if str(folder) not in path:
            path.append(str(folder))
    return functools.partial(getattr(importlib.import_module(reference.module), reference.name), **reference.settings)


def measure(name: str, make: Callable[[], Any], batch_size: int, repeats: int) -> dict[str, float]:
    """Parameters, milliseconds a step of ours and theirs, and how far logits were apart in evaluation mode.

    Raises:
      ValueError: another number of parameters, or logits that differ from theirs in float64 by more than `TOLERANCE`,
        and by more than ten times what theirs in float32 do: in deep networks that have not learnt, roundings grow.
    """
    torch = import_torch()
    torch.manual_seed(0)
    network, size = make().eval(), NETWORKS[name].size
    state = {key: value.numpy().copy() for key, value in network.state_dict().items()}
    pixels = np.random.default_rng(0).standard_normal((batch_size, size, size, 1, 3), np.float32)
    images = torch.from_numpy(pixels[:, :, :, 0].transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        logits, expected = network(images), network.double()(images.double())
    network.float()
    difference = largest_difference(jax.jit(load_reference(state, name))(pixels), expected)
    tolerance = max(TOLERANCE, 10 * largest_difference(logits, expected))
    parameters = sum(values.numel() for values in network.parameters())
    step = bare_step(Case(lambda _: _training(state, name), size, 3, optax.sgd(RATE, MOMENTUM)), batch_size)
    step.compile()
    step.prepare()
    if not (difference <= tolerance and step.parameters == parameters):
        apart = f"{difference:.1e} and {step.parameters:,} parameters instead of {parameters:,}"
        raise ValueError(f"logits must agree with theirs to {tolerance:.1e}, got {apart}")

    labels = torch.randint(0, logits.shape[1], (batch_size,))
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM)

    def their_step():
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()

    seconds = common.median_seconds_in_turn([step, their_step], repeats, pause=0.3)
    times = {name: 1e3 * s for name, s in zip(("ours_ms", "theirs_ms"), seconds, strict=True)}
    return {"parameters": parameters} | times | {"largest_difference": difference}


def _training(state, name):
    network = load_reference(state, name)
    network.train()
    return network


cli = command(main, Arguments)
