"""Trains a preset, or continues it: `python -m experiments.train [PRESET] [--workdir DIR]`.

Without a preset it trains the alpha_F-p4 network on embedded rotated digits, on whatever device there is;
`--data.path PATH` trains on images of your own, class folders of pictures or arrays in a `.npz` file. The same
command continues a run that was killed, and shows the report of one that is complete; with more `--optimizer.epochs` it
extends either. `--devices N` shares every batch among devices, and `--distributed` or `--coordinator` among processes.
"""

import dataclasses
import functools
import pathlib
import shlex
import signal
from typing import Any

from experiments.data import Arrays, Dataset
from experiments.report.classes import class_table
from experiments.report.examples import draw_examples
from experiments.report.findings import angle_images_of, findings_of, first_findings
from experiments.report.markdown import BEST_ON_TEST, side_by_side
from experiments.report.measures import equivariance_line
from experiments.report.pages import write_page
from experiments.report.reports import draw_attention, report_of, save_networks
from experiments.run.command_line import Arguments, command_line, value_of, without_option
from experiments.run.configuration import Config, few_steps_note, steps_per_epoch
from experiments.run.extending import extension_message
from experiments.run.idle import check_effect
from experiments.run.loop import fit, make_trainer
from experiments.run.mesh import mesh_of
from experiments.run.processes import first_then_others, is_first, joined, wait_for_others
from experiments.run.runtime import command, given_command, precision, use_compilation_cache
from experiments.run.stopping import Stopped
from experiments.run.transfer import check_start, start_message, start_of
from experiments.run.waiting import doing
from experiments.run.workdir import PAGE, Run, dataset_of, standardised

_EPOCHS = "--optimizer.epochs"


def train_run(
    config: Config,
    workdir: pathlib.Path,
    data: Arrays | Dataset | None = None,
    *,
    extend: bool = False,
    devices: int | None = None,
    **options: Any,
) -> Run:
    """Trains the networks of a configuration in a work directory, or continues, or does nothing if that is done.

    Args:
      config: the run's.
      workdir: its folder.
      data: images and labels in place of those that the configuration names; a `Dataset` has the size that the network
        takes, and is not standardised.
      extend: whether a run of other epochs is extended, or shortened, to those of `config`.
      devices: how many share every batch, see `experiments.run.mesh.mesh_of`.
      options: those of `experiments.run.loop.fit`, which says what is raised as well.

    Raises:
      ValueError: the work directory is another run's, or the data are not there, or the weights that it starts from are
        not there or do not fit.
    """
    if isinstance(data, Arrays):
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, name="arrays", path=None, stream=False)
        )
    run = Run(workdir)
    run.check(config, extend=extend)
    with precision(config.model.dtype):
        check_start(run, config)
    if run.is_finished(config):
        if run.has_moved(config):
            run.check_data(dataset_of(config))
        return run
    dataset = standardised(config, data if isinstance(data, Dataset) else dataset_of(config, data))
    with precision(config.model.dtype):
        # Checked before anything is written, so that a rejected configuration leaves no work directory.
        start = start_of(config, dataset) if config.init_from is not None and run.newest_step is None else None
        recorded = run.description is not None or start is None
        variance = run.running_variance if recorded else start.record["running_variance"]
        trainer = make_trainer(config, dataset, running_variance=variance)
        mesh = mesh_of(devices, config.optimizer.batch_size, config.optimizer.accumulate)
        with run.locked():
            extended = len(run.extensions)
            # No process finds what another has begun before it has seen what there was.
            wait_for_others("checked")
            begun = dict(extend=extend, start=start and start.record, devices=1 if mesh is None else mesh.size)
            first_then_others(functools.partial(run.begin, config, dataset, **begun))
            if run.extensions:
                trainer = make_trainer(config, dataset, run.extensions, variance)
            if len(run.extensions) > extended:
                message = extension_message(
                    config.optimizer, steps_per_epoch(config, len(dataset.train)), run.extensions
                )
                print(f"{workdir} is {message}", flush=True)
            if start is not None:
                print(start_message(config, start.record, dataset.classes), flush=True)
            note = few_steps_note(config, len(dataset.train))
            if note is not None and run.newest_step is None:
                print(f"note: {note}", flush=True)
            options = {"workers": config.data.workers, "mesh": mesh} | options
            state, best, spent = fit(run, trainer, dataset, start=start, **options)
            if not is_first():
                return run
            with doing("evaluating the networks on all splits"):
                report = report_of(run, trainer, state, best, dataset, spent)
            run.discard_results()
            save_networks(run, trainer, state, best, dataset, report)
            # Figures may take longer than training: a process that is killed meanwhile loses nothing else.
            run.finish(report)
            known = dict(report=report, metrics=run.metrics(), command=given_command())
            write_page(workdir, first_findings(run.name, dataset, **known))
            network = trainer.network(best.params, best.rest, 0)
            with doing("drawing attention"):
                attention = draw_attention(network, dataset, workdir / "attention.png")
            found = findings_of(
                run.name,
                network,
                dataset,
                angle_images=angle_images_of(config, dataset),
                attention=attention,
                **known,
            )
            run.finish(found.report | {"angles": found.angles[run.name], "angle_images": found.angle_images})
            # Last, so that no picture keeps a run from being complete.
            write_page(workdir, found)
    return run


def main(arguments: Arguments) -> None:
    """Trains, and prints the report."""
    with joined(arguments):
        _train(arguments)


def _train(arguments):
    config = Config(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Config)})
    check_effect(config)
    use_compilation_cache(arguments.compilation_cache)
    network, workdir = config.model, arguments.workdir
    if config.augment.preview is not None:
        if not is_first():
            return
        dataset = standardised(config, dataset_of(config))
        draw_examples(dataset, config.augment, config.augment.preview, config.seeds[0])
        print(f"picture: {config.augment.preview}; leave out --augment.preview to train")
        return
    images = config.data.name if config.data.path is None else f"{config.data.name} {config.data.path}"
    described = f"{network.name} on {network.group}, attention {network.attention}, on {images}"
    print(f"{described}; work directory {workdir}")
    words = shlex.split(given_command() or "python -m experiments.train")
    extend = value_of(_EPOCHS, words) is not None
    finished = Run(workdir).is_finished(config)
    try:
        options = dict(devices=arguments.devices, checkpoint_seconds=arguments.checkpoint_seconds)
        run = train_run(config, workdir, extend=extend, **options)
    except KeyboardInterrupt as stop:
        signum = stop.signum if isinstance(stop, Stopped) else signal.SIGINT
        raise Stopped(stopped_message(config, workdir), signum) from None
    if not is_first():
        return
    report = run.report
    if finished:
        longer = shlex.join([*without_option(_EPOCHS, words), _EPOCHS, str(2 * config.optimizer.epochs)])
        print(f"{workdir} is finished, with {config.optimizer.epochs} epochs; to extend it: {longer}")
    several = len(config.seeds) > 1
    print(f"\ntest error in percent{', mean and deviation over seeds' if several else ''}; {BEST_ON_TEST}")
    print(side_by_side([(run.name, report)]))
    # Reports of earlier versions have none.
    if "classes" in report:
        print(f"\ntest images by class, of the network best on validation{', all seeds together' if several else ''}")
        print(class_table(report["classes"]))
    print()
    print(equivariance_line(network.parsed_group(), max(report["equivariance_error"])))
    between = f"errors between epochs in {report['evaluation_seconds']:.0f} s"
    print(f"trained in {report['training_seconds']:.0f} s, {between}")
    evaluation = f"python -m experiments.evaluate {shlex.quote(str(workdir))}"
    if (workdir / PAGE).exists() and "angles" in report:
        print(f"report with pictures: {workdir / PAGE}")
        print(f"more figures, and beside another run: {evaluation}")
    else:
        # The run was killed after its report was written, and before its figures were.
        print(f"report with pictures: {evaluation} draws it")


def stopped_message(config: Config, workdir: pathlib.Path) -> str:
    """What a run that was stopped has left in its work directory, and how to go on."""
    run = Run(workdir)
    step = run.newest_step
    if run.is_finished(config):
        evaluation = f"python -m experiments.evaluate {shlex.quote(str(workdir))}"
        return f"stopped; the run is complete but for figures, which {evaluation} draws"
    if run.description is None or step is None:
        return "stopped; there is no checkpoint yet, so that the same command begins anew"
    per_epoch = steps_per_epoch(config, int(run.description["data"]["train_images"]))
    total = per_epoch * config.optimizer.epochs
    if step == total:
        return "stopped; all steps are taken, and the same command evaluates the networks"
    return (
        f"stopped; the newest checkpoint is of step {step} of {total} (epoch {step / per_epoch:.4g} of "
        f"{config.optimizer.epochs}), and the same command continues there"
    )


cli = command(main, command_line)
