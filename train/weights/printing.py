"""What an import tells people: each tensor's way, and how far the network's answers lie from its source's."""

from rich.box import SIMPLE
from rich.table import Table

from train.terminal import console
from train.weights.importing import Plan
from train.weights.proof import Difference


def origin(plan: Plan) -> str:
    """Say in one line what is taken from where."""
    known = f", the published {plan.known.name}" if plan.known else ""
    fresh = f"; begun anew: {', '.join(plan.match.fresh)}" if plan.match.fresh else ""
    return f"{len(plan.match.rows)} arrays by {plan.match.table} from {plan.file.path.name}{known}{fresh}"


def print_plan(plan: Plan) -> None:
    """Print what would be done with each tensor.

    Raises:
      UserError: some do not fit; names all of them.
    """
    table = Table(box=SIMPLE)
    for column in ("in the file", "shape", "what is done", "here", "shape"):
        table.add_column(column, overflow="fold")  # a name that is cut off is no name
    for slot, tensor, action in plan.match.rows:
        there = (tensor.name, _by(tensor.shape)) if tensor else ("", "")
        table.add_row(*there, action, slot.name, _by(slot.shape))
    console().print(table)
    for tensor in plan.match.left_out:
        print(f"left out by --head: {tensor.name} {_by(tensor.shape)}")
    for tensor in plan.file.ignored:
        print(f"not needed: {tensor.name}")
    print(f"{origin(plan)}; SHA-256 {plan.digests['sha256']}")
    plan.match.check(plan.file.path)


def print_proof(differences: list[Difference]) -> None:
    """Print how far each stage that could be compared lies from its source's."""
    print(f"{'stage':14} largest difference  relative")
    for name, absolute, relative in differences:
        print(f"{name:14} {absolute:18.3g}  {relative:8.2g}")


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
