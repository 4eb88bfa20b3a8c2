"""The main job: from a config to a finished run folder."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from train import devices, environment, hosts, network, settings
from train.checkpoints import Checkpoints, load_network, network_of
from train.data.activations import Activations
from train.data.roles import Dataset
from train.errors import AGAIN, NotFiniteError, UserError
from train.evaluate import make_run_evaluator
from train.feed import training_batches
from train.integrity import diverged
from train.meter import Meter
from train.prepare import check_batch, prepare
from train.progress import Display
from train.records import CONFIG, ENVIRONMENT, RESULT
from train.report import files as report
from train.run import MetricsLog, RunFolder, metrics_line, result_of, to_json
from train.signals import InterruptedRun, listen
from train.step import State
from train.terminal import printable
from train.transfer import adopting, net_a, table
from train.transfer.beginning import begin, check_frozen, load_data
from train.transfer.weights import digests
from train.whole import lock


def train(config: ConfigDict, workdir: Path, given: Collection[str] = ()) -> None:
    """Train from a config into a run folder, or go on where an earlier launch of the same run stopped.

    Args:
      config: every key of configs/base.py; it is completed in place.
      workdir: the run folder.
      given: keys, dotted, that the command line has set.

    Raises:
      UserError: config, data or folder are not as they must be, or a loss is not finite.
      InterruptedRun: SIGTERM or Ctrl-C; the run can be resumed.
    """
    weights = adopting.adopt(config, workdir, given)
    settings.resolve(config)
    if hosts.count() > 1 and config.transfer.mode == "stored":
        raise UserError(
            "config.transfer.mode=stored: trains a small head on one host; choose finetune or frozen, or leave the "
            "flags of several processes out"
        )
    data = load_data(config)
    adopting.complete(config)
    _, params, _ = network.describe(config)
    mesh = devices.make_mesh(config.mesh.data, config.mesh.model)
    check_batch(config, data.train.total, mesh)
    given_layers = {} if weights is None else digests(config, weights)
    if config.transfer.net_a and not (workdir / CONFIG).exists():
        given_layers = net_a.digests(config, mesh)
    del weights  # they are read again where they are needed, and lie in memory once
    _compare_hosts(config, data)
    with lock(workdir) if hosts.writes() else contextlib.nullcontext():
        folder = _open(workdir, config, environment.describe(config.dataset.source, data, given_layers))
        if folder.result is None:
            if hosts.writes():
                report.remove(workdir)  # of a run that is made longer, that of the shorter one
            counts = folder.environment["data"]["counts"]
            print(
                f"{config.model.name}: {network.count_parameters(params):,} parameters, {_origin(config)}, "
                f"{config.precision}, "
                f"{jax.default_backend()} x {mesh.size}; {config.dataset.source}: "
                + ", ".join(f"{count:,} {role}" for role, count in counts.items()),
                flush=True,
            )
            if data.skipped:
                left_out = printable("; ".join(data.skipped[:3]))
                print(f"left out {len(data.skipped)} files (all are in {ENVIRONMENT}): {left_out}")
            if given_layers:
                table.show(table.describe(config, given_layers))
            try:
                result = _fit(config, data, mesh, folder)
                if hosts.writes():
                    folder.finish(result)
            except BrokenPipeError:  # of the standard output, not of the folder
                raise
            except OSError as error:
                raise UserError(
                    f"{workdir}: cannot be written ({error.strerror}); make room or mend the folder, and {AGAIN}"
                ) from error
        else:
            print(f"{workdir}: this run is finished")
        if config.evaluate.report and not hosts.of_writer(report.is_written(workdir)):
            _report(folder, data, mesh)
    if hosts.writes():
        assert folder.result is not None
        print(printable(_summary(folder.result, workdir)))


def _compare_hosts(config: ConfigDict, data: Dataset) -> None:
    """Make sure that all hosts train the same on the same, before anything is written."""
    hosts.must_agree(f"the content of {config.dataset.source}", data.fingerprint, "give all hosts the same data")
    shared = {key: value for key, value in settings.leaves(config) if key not in settings.OF_HOST}
    hosts.must_agree("the config", repr(sorted(shared.items())), "start the same command on all hosts")


def _open(workdir: Path, config: ConfigDict, described: dict[str, Any]) -> RunFolder:
    """Make the run folder or open what there is; the other hosts open what the writer has made."""
    shared = f"--workdir={workdir} must be a folder that all hosts share"

    def read() -> RunFolder:
        if not (workdir / CONFIG).exists():
            raise UserError(
                f"{shared}: what process 0 has written is not here, at process {hosts.number()}; mount it here"
            )
        return RunFolder(workdir)

    folder = hosts.after_writer(lambda: RunFolder.create(workdir, config, described), read)
    hosts.must_agree(str(workdir / ENVIRONMENT), to_json(folder.environment), shared)
    return folder


def _report(folder: RunFolder, data: Dataset, mesh: Mesh) -> None:
    """Draw the report, on the writer's own devices; the others wait at their end."""
    graph, *arrays = load_network(folder, mesh)
    if not hosts.writes():
        return
    from train.report import writing  # what draws is loaded by those alone who want a report

    if hosts.count() > 1:
        arrays, mesh = jax.device_get(arrays), devices.local_mesh()
        arrays = devices.put(arrays, devices.replicated(mesh))
    params, stats = arrays
    for line in writing.write(folder, (graph, params, stats), data, mesh):
        print(line)


def _log_of_writer(
    workdir: Path, first: int, config: ConfigDict
) -> MetricsLog | contextlib.AbstractContextManager[None]:
    """Return what writes metrics, or None where this process does not."""
    if hosts.writes():
        return MetricsLog(workdir, first, tensorboard=config.log.tensorboard)
    return contextlib.nullcontext()


def _fit(config: ConfigDict, data: Dataset, mesh: Mesh, folder: RunFolder) -> dict[str, Any]:
    """Take every step that is left, and return what result.json holds."""
    began, workdir = time.perf_counter(), folder.path
    with Checkpoints(workdir, config.checkpoint.keep) as checkpoints:
        # A signal ends this at once: what is stored of activations is not lost, and there is no step to save yet.
        beginning = begin(config, data, folder, checkpoints, mesh)
        data = beginning.data
        with listen() as signals:
            timetable, schedule, state, train_step, compile_seconds = prepare(
                config, data.train.total, mesh, given=beginning.given
            )
            beginning = beginning._replace(given=None)  # it lies on the devices now, and is not wanted twice
            learning_rate = jax.jit(schedule)
            evaluate = make_run_evaluator(config, mesh)
            first: int = 0
            progress: dict[str, Any] = {"seconds": 0.0, "sums": None}
            if newest := checkpoints.restore_newest(state):
                first, state, progress = newest
                print(f"resuming after step {first:,} of {timetable.total:,}", flush=True)

            def seconds() -> float:
                return round(progress["seconds"] + time.perf_counter() - began, 3)

            def record(split: str, step: int, values: dict[str, Any]) -> dict[str, Any]:
                rate = learning_rate(step - 1).item()
                line = metrics_line(split, step, timetable.steps_per_epoch, values, rate, seconds())
                if log:
                    log.write(line)
                return line

            meter = Meter(config.train.batch_size, progress["sums"])
            with (
                _log_of_writer(workdir, first, config) as log,
                Display(first, timetable.total, config.train.epochs) as display,
                training_batches(data.train, config, mesh, first, timetable.total) as batches,
                _one_line_if_not_finite(config, checkpoints, data, lambda: state),
            ):
                for step, batch in enumerate(batches, start=first + 1):
                    state, metrics = train_step(state, batch)
                    meter.add(step, metrics)
                    display.advance(step)
                    if timetable.logs(step):
                        display.train(record("train", step, meter.read()))
                    validation = None
                    if timetable.evaluates(step) and data.validation is not None:
                        with meter.paused():
                            validation = evaluate(state, data.validation)
                            display.validation(record("validation", step, validation))
                    number = signals.asked(step - first)  # once: one that comes behind this waits for the next step
                    if timetable.saves(step) or number:
                        with meter.paused() as sums:
                            if log:
                                log.sync()  # what a checkpoint has passed must not be lost before it
                            checkpoints.save(state, {"seconds": seconds(), "sums": sums}, validation)
                    if number:
                        checkpoints.wait()
                        raise InterruptedRun(workdir, step, timetable.total, number)

        checkpoints.complete()
        best = checkpoints.best()
        assert best is not None, "the last step is saved"
        trained = checkpoints.restore_network(best, network_of(state))
        with _one_line_if_not_finite(config, checkpoints, data, lambda: state):
            parameters = network.count_parameters(network.describe(config)[1])
            tested = {"test_split": data.test_split, "test": evaluate(state._replace(**trained), data.test)}
            result: dict[str, Any] = {}
            if hosts.writes():
                result = result_of(workdir, timetable.total, best, seconds(), parameters, compile_seconds, tested)
        check_frozen(config, beginning, state, checkpoints, mesh)
        if beginning.frozen:
            result["frozen"] = {
                "until": config.transfer.frozen_until,
                "parameters": parameters - network.count_parameters(trained["params"]),
                "sha256": beginning.frozen,
            }
        return result


@contextlib.contextmanager
def _one_line_if_not_finite(
    config: ConfigDict, checkpoints: Checkpoints, data: Dataset, state: Callable[[], State]
) -> Iterator[None]:
    try:
        yield
    except NotFiniteError as error:
        for images in data.roles().values():
            if isinstance(images, Activations):
                images.check_finite()  # else the learning rate would be blamed for them
        rate, kept = config.schedule.learning_rate, checkpoints.latest()
        raise UserError(diverged(error, rate, kept, state())) from error


def _origin(config: ConfigDict) -> str:
    return "from scratch" if config.transfer.mode == "scratch" else f"from {config.transfer.weights}"


def _summary(result: dict[str, Any], workdir: Path) -> str:
    test = result["test"]
    return (
        f"{result['test_split']} accuracy {test['accuracy']:.2%} ({round(test['accuracy'] * test['count']):,} of "
        f"{test['count']:,}), loss {test['loss']:.4f}; checkpoint of step {result['best_step']:,} "
        f"of {result['step']:,}; {result['seconds']:.1f} s; {workdir / RESULT}"
    )
