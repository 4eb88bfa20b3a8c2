"""The lecture's notebooks: what is committed is what their sources say, and they run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SOURCES = sorted((CHECKOUT / "notebooks").glob("*.py"))
each_notebook = pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
_EXTRA = 'needs the peers of notebooks (pip install -e ".[notebook]")'
# Where folders begin that are somebody's own.
_MACHINE = re.compile(
    r"(?<![\w.])/(?:Users|home|media|mnt|opt|private|root|srv|tmp|usr|var|work)/|[A-Z]:\\\\|site-packages"
)


def cells(source: Path, kind: str) -> list[dict[str, Any]]:
    notebook = json.loads(source.with_suffix(".ipynb").read_text())
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def outputs(source: Path) -> list[dict[str, Any]]:
    return [output for cell in cells(source, "code") for output in cell["outputs"]]


def text(lines: str | list[str]) -> str:
    return "".join(lines)


def test_there_are_seven_each_with_its_source() -> None:
    assert [source.name[:2] for source in SOURCES] == [f"{number}_" for number in range(1, 8)]
    built = sorted((CHECKOUT / "notebooks").glob("*.ipynb"))
    assert [source.stem for source in SOURCES] == [file.stem for file in built]


@each_notebook
def test_the_committed_one_was_run_from_top_to_bottom_without_complaint(source: Path) -> None:
    counts = [cell["execution_count"] for cell in cells(source, "code")]
    assert counts == list(range(1, len(counts) + 1)), "run all of it, in a new kernel"
    assert {output["output_type"] for output in outputs(source)} <= {"stream", "display_data", "execute_result"}
    assert [text(output["text"]) for output in outputs(source) if output.get("name") == "stderr"] == []
    assert text(outputs(source)[0]["text"]).startswith("Full form"), "without OLDMASTERS_SHORT"


@each_notebook
def test_the_committed_one_has_pictures_and_is_small(source: Path) -> None:
    assert any("image/png" in output.get("data", {}) for output in outputs(source))
    assert source.with_suffix(".ipynb").stat().st_size < 1_000_000


@each_notebook
def test_the_committed_one_names_no_folder_of_a_machine(source: Path) -> None:
    for output in outputs(source):
        shown = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
        for lines in shown:
            assert not _MACHINE.search(text(lines)), text(lines)


@each_notebook
def test_each_says_what_one_learns_and_ends_with_something_to_try(source: Path) -> None:
    first, *_, last = (text(cell["source"]) for cell in cells(source, "markdown"))
    assert first.startswith(f"# {source.name[0]}. ")
    assert 3 <= len(re.findall(r"^- ", first, re.MULTILINE)) <= 5
    assert re.search(r"^## Try it$", last, re.MULTILINE)


@pytest.mark.peer
@each_notebook
def test_the_committed_one_is_what_the_source_says(source: Path) -> None:
    jupytext = pytest.importorskip("jupytext", reason=_EXTRA)
    said = [(cell.cell_type, cell.source) for cell in jupytext.read(source).cells]
    there = [(cell.cell_type, cell.source) for cell in jupytext.read(source.with_suffix(".ipynb")).cells]
    assert there == said, "build it again (see CONTRIBUTING.md)"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the notebooks keep compiled programs, for each other."""
    return tmp_path_factory.mktemp("compiled")


def run(source: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a notebook in its short form, in the folder that it lies in."""
    jupytext = pytest.importorskip("jupytext", reason=_EXTRA)
    nbclient = pytest.importorskip("nbclient", reason=_EXTRA)
    monkeypatch.setenv("OLDMASTERS_SHORT", "1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(compiled))
    notebook = jupytext.read(source)
    where = {"metadata": {"path": str(source.parent)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert shown[0].text.startswith("Short form")
    assert [output.text for output in shown if output.get("name") == "stderr"] == []


@pytest.mark.peer
@each_notebook
def test_it_runs_on_embedded_data(source: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLDMASTERS_DATA", raising=False)
    run(source, compiled, monkeypatch)


@pytest.mark.peer
def test_maps_of_mnist_and_of_photos(real_data: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source,) = (source for source in SOURCES if source.name.startswith("6_"))
    run(source, compiled, monkeypatch)
