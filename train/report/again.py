"""The report of a run that is finished already."""

from train import devices
from train.checkpoints import load_network
from train.errors import UserError
from train.report import writing
from train.run import RunFolder
from train.transfer.beginning import load_data
from train.whole import lock


def write(run: RunFolder, source: str | None) -> list[str]:
    """Write the report of a finished run, and return what it says in a few lines.

    Args:
      run: its folder.
      source: where its data lies now; None: where it lay.

    Raises:
      UserError: the run is not finished, or has no data of its own; the data cannot be read or is not what it was; or
        as `writing.write`.
    """
    if "weights" in run.environment:
        raise UserError(
            f"{run.path}: holds imported weights, which come without images and without a result; "
            "scripts.evaluate, scripts.explain and scripts.embed look at them with a --source"
        )
    if run.result is None:
        raise UserError(f"{run.path}: this run is not finished; the command that trains it goes on")
    config = run.config.copy_and_resolve_references()
    config.dataset.source = source or config.dataset.source
    data = load_data(config)
    if data.fingerprint != run.environment["data"]["fingerprint"]:
        raise UserError(
            f"{config.dataset.source}: is not the data that {run.path} was trained on; say with --source where that "
            "lies now"
        )
    mesh = devices.make_mesh(None)
    with lock(run.path):
        return writing.write(run, load_network(run, mesh), data, mesh)
