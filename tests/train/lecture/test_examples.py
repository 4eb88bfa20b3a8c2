"""The lecture's numbers."""

import json
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from scipy.signal import correlate

from train.errors import UserError
from train.lecture.edges import KERNELS, edges, read
from train.lecture.examples import EXAMPLES, FILTER, INPUT, Example, convolve, number
from train.lecture.rendering import as_json, as_text, save


@pytest.mark.parametrize(
    ("name", "output"),
    [
        # Of the slides; where their frames of padding differ in single cells, the sums decide.
        ("filter", [[12, 12, 17], [10, 17, 19], [9, 6, 14]]),
        ("padding", [[6, 17, 3], [8, 17, 13], [6, 4, 4]]),
        ("stride", [[6, 17, 3], [8, 17, 13], [6, 4, 4]]),
        ("max_pool", [[3, 3, 3], [3, 3, 3], [3, 2, 3]]),
        ("average_pool", [[1.7, 1.7, 1.7], [1.0, 1.2, 1.8], [1.1, 0.8, 1.3]]),
        ("nonlinearity", [[0, 0, 5], [0, 5, 7], [0, 0, 2]]),
        ("usage", np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1])),
        ("shrink", [32, 28, 24, 20, 16, 12, 8, 4]),
    ],
)
def test_outputs_are_the_lectures(name: str, output: list) -> None:
    np.testing.assert_allclose(EXAMPLES[name]().output, output, atol=0.05)


def test_a_perceptron_takes_32_billion_weights() -> None:
    assert EXAMPLES["mlp"]().output == {"weights": 32_400_000_000, "biases": 100, "bytes": 129_600_000_000}


def test_channels_are_added() -> None:
    example = EXAMPLES["channels"]()
    maps = [correlate(example.input[name], example.filter[name], mode="valid") for name in ("red", "green", "blue")]
    np.testing.assert_allclose(example.output, np.sum(maps, axis=0))


@pytest.mark.parametrize(
    "name", ["filter", "padding", "stride", "max_pool", "average_pool", "channels", "nonlinearity"]
)
def test_what_stands_in_a_step_makes_its_result(name: str) -> None:
    """Each line's arithmetic is right, and its results are the output, row by row."""
    example = EXAMPLES[name]()
    results = []
    for step in example.steps:
        sides = step.partition(": ")[2].replace("g(", "max(0, ").rpartition(" = ")
        assert re.fullmatch(r"[\d.+*/(), max-]+", sides[0]), step
        assert eval(sides[0]) == pytest.approx(float(sides[2]), abs=0.05)  # of digits and signs alone: see above
        results.append(float(sides[2]))
    np.testing.assert_allclose(np.ravel(example.output), results, atol=0.05)


def test_shrinking_says_that_1x1_is_not_reached() -> None:
    example = EXAMPLES["shrink"]()
    assert len(example.steps) == 7
    assert "1x1 is never reached" in example.notes[0]


def test_convolve_is_scipys() -> None:
    matrix = np.random.default_rng(0).normal(size=(9, 8)).astype(np.float32)
    np.testing.assert_allclose(convolve(matrix, FILTER), correlate(matrix, FILTER, mode="valid"), atol=1e-4)
    np.testing.assert_allclose(
        convolve(matrix, FILTER, 2, 1), correlate(np.pad(matrix, 1), FILTER, mode="valid")[::2, ::2], atol=1e-4
    )


def test_edges_on_a_step_of_brightness(tmp_path) -> None:
    photo = np.zeros((20, 24), np.float32)
    photo[:, 12:] = 100
    example = edges(photo, "step")
    maps = dict(example.panels)
    assert maps["sobel, left to right"].max() == 400
    assert maps["prewitt, left to right"].max() == 300
    for name in ("sobel, top to bottom", "prewitt, top to bottom"):
        assert not maps[name].any()
    assert (maps["laplacian"].min(), maps["laplacian"].max()) == (-100, 100)
    assert maps["blur"][0, 8] == pytest.approx(100 * 3 / 7, rel=1e-5)
    assert maps["sharpen"].max() == 200
    assert maps["sobel, left to right"].mean() > 1  # and yet it is drawn about gray: by its weights
    for kernel, weights in KERNELS.items():
        assert weights.sum() == pytest.approx(1 if kernel in ("blur", "sharpen") else 0)
    save(example, tmp_path / "edges.png")
    assert (tmp_path / "edges.png").read_bytes().startswith(b"\x89PNG")


def test_a_photo_comes_with_scikit_learn() -> None:
    photo = read(None)
    assert photo.shape == (427, 640)
    assert 0 <= photo.min() < 20
    assert 230 < photo.max() <= 255


def test_photos_that_cannot_be_used(tmp_path) -> None:
    with pytest.raises(UserError, match=r"--image=.*none.jpg: No such file"):
        read(str(tmp_path / "none.jpg"))
    (tmp_path / "text.jpg").write_text("no photo")
    with pytest.raises(UserError, match=r"text.jpg: must be a JPEG, PNG or WebP image"):
        read(str(tmp_path / "text.jpg"))
    with pytest.raises(UserError, match="dot: is 3x6 pixels; take a photo of 7x7 or more"):
        edges(np.zeros((6, 3), np.float32), "dot")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_text_json_and_a_picture(name: str, tmp_path) -> None:
    example: Example = EXAMPLES[name]()
    written = json.loads(json.dumps(as_json(name, example)))
    assert written["example"] == name
    assert written.keys() >= {"input", "filter", "output"}
    text = as_text(example)
    assert all(step in text for step in example.steps)
    assert example.title in text
    if example.panels:
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            save(example, tmp_path / "example.svg")
        picture = (tmp_path / "example.svg").read_text()
        for panel, matrix in example.panels:
            assert f">{panel}<" in picture
            assert all(f">{number(float(value))}<" in picture for value in np.unique(matrix))
    else:
        with pytest.raises(UserError, match="nothing to draw"):
            save(example, tmp_path / "example.svg")


def test_numbers_are_written_as_in_a_lecture() -> None:
    assert [number(value) for value in (12.0, 1.6667, 0.0, -3.0)] == ["12", "1.7", "0", "-3"]


def test_matrices_stand_beside_each_other() -> None:
    lines = as_text(EXAMPLES["filter"]()).splitlines()
    assert lines[2:5] == [
        "input        filter    output",
        "3 3 2 1 0    0 1 2     12 12 17",
        "0 0 1 3 1    2 2 0     10 17 19",
    ]
    assert INPUT.shape == (5, 5)


def test_a_name_with_a_formula_in_it_is_drawn_as_it_stands(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).uniform(0, 255, (24, 32)).astype(np.float32)
    save(edges(photo, "a$x^$b\n.png"), tmp_path / "e.png")
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
