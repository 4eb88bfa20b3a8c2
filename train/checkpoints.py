"""Checkpoints of a run: where it stands, and where it was best. Orbax writes them while training goes on.

A checkpoint appears whole or not at all: Orbax renames its folder when everything is in it. Its checksums tell whether
what is read is what was written. What is frozen lies beside them, once.
"""

import contextlib
import errno
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from jax.sharding import Mesh
from ml_collections import ConfigDict
from orbax.checkpoint.checkpoint_managers import preservation_policy

from train import devices, hosts, network
from train.errors import AGAIN, NotFiniteError, UserError, of_this_machine, reason
from train.integrity import Replaced, Unreadable, hold_size, not_finite, sealed, unsealed
from train.network import PyTree
from train.run import RunFolder
from train.signals import InterruptedRun
from train.step import State

# Bytes of a checkpoint beside its arrays: three dozen small files and folders, of a block each or more.
_FILES = 2**18
_REMOVED = 1.0  # seconds within which a checkpoint is removed that another one replaces


def _without_closed_loops(tell: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Return a hook that passes over what tensorstore's threads raise behind the first error, at which Orbax ends."""
    return lambda raised: None if str(raised.exc_value) == "Event loop is closed" else tell(raised)


sys.unraisablehook = _without_closed_loops(sys.unraisablehook)


def network_of(state: State) -> PyTree:
    """Return the part of a state that makes a network, but for what is frozen."""
    return {"params": state.params, "stats": state.stats, "ema": state.ema}


def load_network(folder: RunFolder, mesh: Mesh, step: int | None = None) -> tuple[nnx.GraphDef, PyTree, PyTree]:
    """Return the trained network of a run as (graph, parameters, batch statistics).

    Args:
      folder: the run.
      mesh: of devices; each gets all of the network.
      step: of the checkpoint; by default the best.

    Raises:
      UserError: the run has no checkpoint, or it cannot be read.
      Replaced: of that step there is none any more.
    """
    graph, _, _ = network.describe(folder.config)
    frozen_part, (_, params, stats) = network.describe_parts(folder.config)
    like = {"params": params, "stats": stats, "ema": params if folder.config.train.ema else {}}
    trained = None
    while trained is None:
        with Checkpoints(folder.path, read_only=True) as checkpoints:
            chosen = checkpoints.best() if step is None else step
            if chosen is None:
                raise UserError(
                    f"{checkpoints.path}: there is no checkpoint yet; the command that trains the run makes one"
                )
            try:
                trained = checkpoints.restore_network(chosen, _placed(like, mesh))
            except Replaced:  # by a better one: the run is training
                if step is not None:
                    raise
    params, stats = trained["ema"] or trained["params"], trained["stats"]
    if frozen_part is not None:
        frozen = checkpoints.restore_frozen(folder.config, mesh)
        params, stats = frozen["params"] | params, frozen["stats"] | stats
    return graph, params, stats


def _placed(shapes: PyTree, mesh: Mesh) -> PyTree:
    everywhere = devices.replicated(mesh)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), shapes)


def _goes(path: Path) -> bool:
    """Whether a folder is gone, or is just being removed: file by file."""
    until = time.monotonic() + _REMOVED
    while path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    return not path.exists()


def _accuracy(metrics: dict[str, float]) -> float:
    return metrics["accuracy"]


class Checkpoints:
    """The folder `checkpoints` of a run.

    Kept are the last `keep`, and the best on validation; of equally good ones the later.

    Args:
      folder: the run folder.
      keep: how many of the last.
      read_only: leave everything as it is: the run may be training in another process.
    """

    def __init__(self, folder: Path, keep: int = 1, *, read_only: bool = False) -> None:
        self.path = folder / "checkpoints"
        self._frozen = (folder / "frozen").absolute()
        self._keep, self._read_only = keep, read_only
        best = preservation_policy.BestN(get_metric_fn=_accuracy, n=1, keep_checkpoints_without_metrics=False)
        with self._listed():
            self._manager = ocp.CheckpointManager(
                self.path.absolute(),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=preservation_policy.AnyPreservationPolicy(
                        [preservation_policy.LatestN(keep), best]
                    ),
                    best_fn=_accuracy,  # it makes Orbax store and compare metrics; the policy above decides what stays
                    read_only=read_only,
                    create=not read_only,
                    cleanup_tmp_directories=not read_only,
                ),
                item_names=("network", "optimizer", "progress"),
            )

    @contextlib.contextmanager
    def _listed(self) -> Iterator[None]:
        """Turn whatever damaged files of figures and times make Orbax raise into one line."""
        try:
            yield
        except (OSError, UserError):
            raise
        except Exception as error:
            raise UserError(
                f"{self.path}: what it says about its checkpoints cannot be read ({reason(error)}); the others can be "
                "read without the folder of the damaged one"
            ) from error

    def latest(self) -> int | None:
        """Return the step of the last checkpoint, or None."""
        return self._manager.latest_step()

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints, the first first."""
        return sorted(self._manager.all_steps())

    def best(self) -> int | None:
        """Return the step of the best checkpoint on validation; the last where none was validated."""
        with self._listed():
            best = self._manager.best_step()
        return self.latest() if best is None else best

    def save(self, state: State, progress: dict[str, Any], validation: dict[str, Any] | None = None) -> None:
        """Begin to write the state and what else a resumed run must know; returns when the state has been copied.

        Raises:
          UserError: this one, or the one before it, cannot be written.
          NotFiniteError: the state is not finite; nothing is written, so that what is kept is good.
        """
        step = int(state.step)
        # All of it: a variance or a moment that has overflowed makes no loss infinite, and would stay so for ever.
        if bad := not_finite(state._replace(frozen={})):
            raise NotFiniteError(f"after step {step:,} not finite are {bad}")
        if step == self.latest():
            return
        try:
            self._manager.wait_until_finished()  # as saving would; the room it takes is taken then
            self._look_for_room(state)
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    network=ocp.args.StandardSave(network_of(state)),
                    optimizer=ocp.args.StandardSave({"optimizer": state.optimizer}),
                    progress=ocp.args.JsonSave(sealed(progress, network=network_of(state), optimizer=state.optimizer)),
                ),
                metrics=validation,
            )
        except Exception as error:  # tensorstore, Orbax and the system raise types of their own for a full disk
            raise self._cannot_write(error) from error

    def _look_for_room(self, tree: PyTree) -> None:
        """Raise OSError where a checkpoint of it does not fit: tensorstore is not sent into a full disk knowingly."""
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + _FILES
        if needed > (free := shutil.disk_usage(self.path).free):
            raise OSError(errno.ENOSPC, f"it takes {needed / 1e6:,.1f} MB, and {free / 1e6:,.1f} MB are free")

    def save_network(self, params: PyTree, stats: PyTree) -> None:
        """Begin to write a network that was not trained here, as the checkpoint of step 0.

        Raises:
          UserError: it cannot be written.
        """
        # Orbax copies NumPy's arrays, jax's not.
        network = jax.device_put({"params": params, "stats": stats, "ema": {}}, jax.devices("cpu")[0])
        try:
            self._look_for_room(network)
            progress = ocp.args.JsonSave(sealed({}, network=network))
            self._manager.save(0, args=ocp.args.Composite(network=ocp.args.StandardSave(network), progress=progress))
        except Exception as error:  # as in `save`
            raise self._cannot_write(error) from error

    def save_frozen(self, frozen: PyTree) -> None:
        """Write `params` and `stats` of the layers that stay as they are, for all checkpoints.

        Raises:
          UserError: they cannot be written.
        """
        try:
            with ocp.StandardCheckpointer() as writer:
                writer.save(self._frozen, frozen, force=True)
        except Exception as error:  # as in `save`
            raise self._cannot_write(error) from error

    def restore_frozen(self, config: ConfigDict, mesh: Mesh) -> PyTree:
        """Return what `save_frozen` has written.

        Raises:
          UserError: it is not there, or cannot be read.
        """
        part, _ = network.describe_parts(config)
        assert part is not None, "there is a stage up to which all is frozen"
        _, params, stats = part
        try:
            with ocp.StandardCheckpointer() as reader:
                return reader.restore(self._frozen, _placed({"params": params, "stats": stats}, mesh))
        except Exception as error:  # as in `_restore`
            then = f"mend that, and {AGAIN}" if of_this_machine(error) else "remove the run's folder and begin again"
            raise UserError(f"{self._frozen}: the frozen layers cannot be read ({reason(error)}); {then}") from error

    def wait(self) -> None:
        """Return when everything is on disk.

        Raises:
          UserError: it cannot be written.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:  # as in `save`
            raise self._cannot_write(error) from error

    def complete(self) -> None:
        """Return when everything is on disk and nothing but what is kept.

        Orbax removes, after a checkpoint, those that it replaces. A launch that was killed there has left them, or
        parts of them, and if it was the last checkpoint, no other comes.

        Raises:
          UserError: it cannot be written.
        """
        self.wait()
        if not hosts.writes():
            return
        for step in {*self.steps()} - {*self.steps()[-self._keep :], self.best()}:
            shutil.rmtree(self.path / str(step), ignore_errors=True)

    def _cannot_write(self, error: Exception) -> UserError:
        return UserError(
            f"{self.path}: a checkpoint cannot be written ({reason(error)}); make room or mend the folder, and {AGAIN}"
        )

    def restore(self, step: int, state: State) -> tuple[State, dict[str, Any]]:
        """Return the state of a step, with shapes and places as in `state`, and the progress saved with it.

        Raises:
          UserError: the checkpoint cannot be read.
        """
        restored, progress = self._restore(
            step,
            network=ocp.args.StandardRestore(network_of(state)),
            optimizer=ocp.args.StandardRestore({"optimizer": state.optimizer}),
        )
        taken = devices.put(np.asarray(step, state.step.dtype), state.step.sharding)
        optimizer = restored.optimizer["optimizer"]
        return State(taken, state.seed, **restored.network, frozen=state.frozen, optimizer=optimizer), progress

    def restore_newest(self, state: State) -> tuple[int, State, dict[str, Any]] | None:
        """Return the newest checkpoint that can be read, as its step and what `restore` returns; None if there is none.

        Those that cannot are named, and put into the folder `damaged` beside `checkpoints`.

        Raises:
          UserError: there are some and none can be read; or hosts share the run, for what one cannot read another may.
        """
        damaged = self.path.parent / "damaged"
        for step in reversed(self.steps()):
            try:
                return step, *self.restore(step, state)
            except Unreadable as error:
                if hosts.count() > 1:
                    raise
                damaged.mkdir(exist_ok=True)
                shutil.rmtree(damaged / str(step), ignore_errors=True)
                (self.path / str(step)).rename(damaged / str(step))
                self._manager.reload()
                print(f"{error.reason}; it lies in {damaged} now", flush=True)
                if self.latest() is None:
                    raise UserError(f"{self.path}: there is no other; {AGAIN}, which begins anew") from error
        return None

    def restore_network(self, step: int, like: PyTree) -> PyTree:
        """Return params, stats and ema of a step, a dict with shapes and places as in `like`.

        Raises:
          UserError: the checkpoint cannot be read.
        """
        return self._restore(step, network=ocp.args.StandardRestore(like))[0].network

    def _restore(self, step: int, **items: Any) -> tuple[Any, dict[str, Any]]:
        """Return the items of a checkpoint, and the progress saved with them."""
        place = self.path / str(step)
        try:
            for args in items.values():
                hold_size(args.item, place)
            restored = self._manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore(), **items))
            progress = unsealed(restored.progress, {name: restored[name] for name in items})
        except Exception as error:  # whatever a damaged file makes Orbax and tensorstore raise
            if of_this_machine(error):
                raise UserError(f"{place}: cannot be read here ({reason(error)}); mend that, and {AGAIN}") from error
            if self._read_only and _goes(place):
                raise Replaced(f"{place}: has been replaced while it was read; {AGAIN}") from error
            raise Unreadable(f"{place}: the checkpoint cannot be read ({reason(error)})") from error
        if bad := not_finite(restored.network):
            raise Unreadable(f"{place}: the checkpoint is of no use (not finite are {bad})")
        return restored, progress

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error and hosts.count() > 1 and not isinstance(error, InterruptedRun):
            return  # this process leaves (`hosts.leave`); to close, it would wait for the others
        try:
            self._manager.close()
        except Exception as last:
            if error is None:  # else it is a consequence
                raise self._cannot_write(last) from last
        if self._read_only or not hosts.writes():
            return
        for unfinished in self.path.glob("*.orbax-checkpoint-tmp"):
            shutil.rmtree(unfinished, ignore_errors=True)
