"""A sweep under Ray Tune, which stops runs that are behind others (ASHA), on this machine or on a cluster.

What a run has learnt lies in its run folder, and nowhere else: a trial of Ray's starts scripts.train on that folder and
reads its metrics. So a sweep that was killed needs nothing of Ray's to go on. Runs that had ended then, tell the new
scheduler what they had told the old one, from their metrics.
"""

import contextlib
import importlib.util
import logging
import math
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from train.cores import cores
from train.errors import AGAIN, UserError
from train.records import METRICS, read_metrics
from train.run import RunFolder
from train.signals import Signals
from train.sweep.child import Child, python_path, stop
from train.sweep.folder import InterruptedSweep, SweepFolder
from train.sweep.ranges import Asha
from train.sweep.trials import Trial
from train.timetable import Timetable

_PAUSE = 0.1
# What a trial tells Tune: its accuracy on validation images, whether it has ended by itself, and why it has failed.
_METRIC, _BY_ITSELF, _REASON = "accuracy", "by_itself", "reason"


def check(config: ConfigDict) -> None:
    """Refuse what Ray cannot do.

    Raises:
      UserError: it is not installed, or there are no validation images.
    """
    if config.dataset.validation == 0:
        raise UserError(
            "config.dataset.validation=0: ASHA compares runs by their accuracy on validation images; set some aside, "
            "or choose --by=vmap or --by=processes, which stop none"
        )
    if importlib.util.find_spec("ray") is None:
        raise UserError('--by=ray: is not installed; pip install -e ".[sweep]"')


def run(
    folder: SweepFolder,
    command: Sequence[str],
    trials: Sequence[Trial],
    config: ConfigDict,
    asha: Asha,
    jobs: int,
    address: str | None,
    say: Callable[[str], None],
) -> None:
    """Train what is left of the trials.

    Args:
      folder: of the sweep; on a cluster, all its machines see it under the same path.
      command: scripts.train with the config that all runs share.
      trials: those with an end are left alone.
      config: that all runs share.
      asha: when a run is stopped.
      jobs: runs at once.
      address: of a cluster, or "auto"; None: Ray runs here, for as long as this takes.
      say: prints a line.

    Raises:
      UserError: Ray cannot begin.
      InterruptedSweep: a signal has come; each run has saved its state.
    """
    check(config)
    if not any(folder.is_open(trial) for trial in trials):
        return
    # Before Ray is loaded: no word to anybody's server, no handler of signals but ours, and no output but ours.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "TUNE_DISABLE_SIGINT_HANDLER": "1", "RAY_AIR_NEW_OUTPUT": "0"}
    os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
    import ray
    from ray import tune
    from ray.tune.schedulers import AsyncHyperBandScheduler

    evaluations = math.ceil(config.train.epochs / config.evaluate.every_epochs)
    share = max(1, cores() // jobs)
    scheduler = AsyncHyperBandScheduler(
        time_attr="training_iteration",
        metric=_METRIC,
        mode="max",
        max_t=evaluations + 1,  # it would end a run that has come so far, which ends by itself
        grace_period=min(asha.grace, evaluations),
        reduction_factor=asha.reduction,
    )
    with Signals() as signals, tempfile.TemporaryDirectory(prefix="ray") as scratch:
        here: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        here["num_cpus"] = max(cores(), jobs)
        found: dict[str, Any] = {"env_vars": {"PYTHONPATH": python_path()}}
        if address is None:
            found["py_executable"] = shlex.quote(sys.executable)  # Ray gives it to a shell, as it is
        try:
            ray.init(
                **(here if address is None else {"address": address}),
                runtime_env=found,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
            )
        except (OSError, RuntimeError, ValueError) as error:
            where = "" if address is None else f" --address={address}"
            raise UserError(
                f"--by=ray{where}: Ray does not start: {str(error).splitlines()[0]}; try --by=processes"
            ) from error
        try:
            tune.Tuner(
                tune.with_resources(_trainable(folder, command, trials, share), {"cpu": share}),
                param_space={"place": tune.grid_search(list(range(len(trials))))},
                tune_config=tune.TuneConfig(scheduler=scheduler, max_concurrent_trials=jobs),
                run_config=tune.RunConfig(
                    storage_path=scratch,
                    verbose=0,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    callbacks=[_teller(folder, trials, signals, say)],
                ),
            ).fit()
        except Exception:
            if not signals.number:
                raise
        finally:
            ray.shutdown()  # a trial's process is tied to Ray's, and saves its state
            _wait_for_all(folder, trials)
    if signals.number:
        ended = sum(not folder.is_open(trial) for trial in trials)
        raise InterruptedSweep(folder.path, ended, len(trials), signals.number)


def _wait_for_all(folder: SweepFolder, trials: Sequence[Trial]) -> None:
    """Return when no process writes into a run folder any more, or after half a minute."""
    until = time.monotonic() + 30
    while time.monotonic() < until and not all(map(folder.is_free, trials)):
        time.sleep(_PAUSE)


def _trainable(folder: SweepFolder, command: Sequence[str], trials: Sequence[Trial], threads: int) -> type:
    """Return what Ray Tune runs: a trial, whose steps are the evaluations of a process of scripts.train."""
    from ray import tune

    here = Path.cwd()  # a trial is in another folder

    class Run(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self._trial = trials[config["place"]]
            self._told = 0
            self._child: Child | None = None
            while folder.is_open(self._trial) and not folder.is_free(self._trial):
                time.sleep(_PAUSE)  # one of a sweep that was killed saves its state there
            if folder.is_open(self._trial):
                run, log = folder.run(self._trial), folder.log(self._trial)
                self._child = Child(command, self._trial, run, log, threads, here)

        def step(self) -> dict[str, Any]:
            """Wait for the next evaluation and return it; the last comes when the process has ended."""
            while True:
                status = 0 if self._child is None else self._child.status()
                told, records = self._told, read_metrics(folder.run(self._trial) / METRICS)
                validations = [line for line in records if line["split"] == "validation"]
                last = status is not None and told + 1 >= len(validations)
                # One that is the newest may be the last of all: the next line or the end of the process will tell.
                if last or told + 1 < len(validations) or (told < len(validations) and not self._is_last(records)):
                    self._told += 1
                    accuracy = validations[told]["accuracy"] if told < len(validations) else 0.0
                    reason = self._child.reason() if last and self._child is not None else ""
                    return {_METRIC: accuracy, "done": last, _BY_ITSELF: last, _REASON: reason}
                time.sleep(_PAUSE)

        def _is_last(self, records: list[dict[str, Any]]) -> bool:
            run = RunFolder(folder.run(self._trial))
            images = run.environment["data"]["counts"]["train"]
            return records[-1]["step"] == Timetable(run.config, images).total

        def cleanup(self) -> None:
            if self._child is not None:
                stop([self._child])

    return Run


def _teller(folder: SweepFolder, trials: Sequence[Trial], signals: Signals, say: Callable[[str], None]) -> Any:
    """Return what Ray Tune calls: it writes down whom ASHA has stopped, tells how runs end, and heeds signals."""
    from ray import tune

    class Teller(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            own, result = of[trial.config["place"]], trial.last_result
            if own.name in before:
                return
            if not result.get(_BY_ITSELF) and not signals.number and folder.is_open(own):
                validations = folder.outcome(own).validations
                at = validations[result["training_iteration"] - 1]["step"]
                folder.end(own, "stopped", f"by ASHA after step {at:,}")
            reason = result.get(_REASON)
            say(f"{own.name}: {folder.fail(own, reason) if reason else folder.outcome(own).in_words}")

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            own, lines = of[trial.config["place"]], ["without a word"]
            with contextlib.suppress(OSError, TypeError):  # there is no such file
                lines = [line for line in Path(trial.error_file).read_text().splitlines() if line.strip()]
            say(f"{own.name}: {folder.fail(own, f'Ray has lost it ({lines[-1].strip()}); {AGAIN}')}")

        def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
            if signals.number:
                raise RuntimeError("a signal has come")

    of, before = list(trials), {trial.name for trial in trials if not folder.is_open(trial)}
    return Teller()
