"""Severity of mistakes, in a small WordNet of our own, and in Debian's."""

from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from train.errors import UserError
from train.protocols import wordnet

# wndb(5WN): number, file, type, count of words, words, count of pointers, pointers.
NOUNS = """  1 This line stands for the licence.
00000001 03 n 01 entity 0 000 | all there is
00000002 03 n 02 animal 0 beast 0 001 @ 00000001 n 0000 | it lives
00000003 05 n 01 canine 0 001 @ 00000002 n 0000 | has teeth
00000004 05 n 01 feline 0 002 @ 00000002 n 0000 ~ 00000007 n 0000 | has claws
00000005 05 n 02 dog 0 domestic_dog 0 001 @ 00000003 n 0000 | barks
00000006 05 n 01 wolf 0 001 @ 00000003 n 0000 | howls
00000007 05 n 01 cat 0 001 @ 00000004 n 0000 | meows
00000008 06 n 0a tea_pot 0 b 0 c 0 d 0 e 0 f 0 g 0 h 0 i 0 j 0 001 @i 00000001 n 0000 | pours
"""
DOG, WOLF, CAT, POT = range(4)
CLASSES = ("n00000005", "n00000006", "n00000007", "n00000008")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data.noun").write_text(NOUNS)
    return tmp_path


def one_hot(classes: list[int]) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[classes]


def test_heights_by_hand(folder: Path) -> None:
    labels = np.array([DOG, DOG, DOG, DOG, CAT, WOLF], np.int32)
    found = wordnet.severity(one_hot([DOG, WOLF, CAT, POT, POT, DOG]), labels, CLASSES, folder)
    # Dog and wolf meet in canine, one step up; dog and cat in animal, two; anything and a pot in entity, three.
    assert found["mistakes"] == 5
    assert found["mean_height"] == pytest.approx((1 + 2 + 3 + 3 + 1) / 5)
    assert found["highest"] == 3
    assert {row["concept"]: (row["height"], row["mistakes"]) for row in found["common"]} == {
        "canine": (1, 2),
        "animal": (2, 1),
        "entity": (3, 2),
    }


def test_no_mistakes(folder: Path) -> None:
    found = wordnet.severity(one_hot([DOG, CAT]), np.array([DOG, CAT], np.int32), CLASSES, folder)
    assert (found["mistakes"], found["mean_height"], found["common"]) == (0, None, [])


def test_bad_files(folder: Path) -> None:
    with pytest.raises(UserError, match="knows no n12345678"):
        wordnet.severity(one_hot([0]), np.array([0], np.int32), ("n12345678",), folder)
    (folder / "data.noun").write_text("what is this\n")
    with pytest.raises(UserError, match="cannot be read as WordNet's nouns"):
        wordnet.severity(one_hot([0]), np.array([0], np.int32), CLASSES, folder)


def test_where_it_is_looked_for(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(wordnet.VARIABLE, str(folder))
    assert wordnet.folder() == folder
    monkeypatch.setenv(wordnet.VARIABLE, str(tmp_path / "nowhere"))
    assert wordnet.folder() is None


def test_which_classes_are_wordnets(config: ConfigDict) -> None:
    config.dataset.class_names = ("dog", "cat")
    assert wordnet.identifiers(config.dataset) is None
    config.dataset.class_ids = ("n02084071", "n02121808")
    assert wordnet.identifiers(config.dataset) == ("n02084071", "n02121808")


@pytest.mark.peer
def test_debians() -> None:
    there = wordnet.folder()
    assert there is not None, "apt-get install wordnet-base"
    classes = ("n02099601", "n02106662", "n02125311", "n03376595")  # golden retriever, shepherd, cougar, folding chair
    found = wordnet.severity(one_hot([1, 2, 3]), np.array([0, 0, 0], np.int32), classes, there)
    assert [row["concept"] for row in sorted(found["common"], key=lambda row: row["height"])] == [
        "dog",
        "carnivore",
        "whole",
    ]


NOUN = "{0} 03 n 01 {1} 0 001 @ {2} n 0000 | as a dictionary says"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([NOUN.format("00000001", "cat", "00000002"), NOUN.format("00000002", "dog", "00000001")], "has no end"),
        ([NOUN.format("00000001", "cat", "00000001"), NOUN.format("00000002", "dog", "00000001")], "has no end"),
        ([NOUN.format("00000001", "cat", "00000009"), NOUN.format("00000002", "dog", "00000001")], "00000009"),
        (["00000001 03 n 01 cat 0 000 |", "00000002 03 n 01 dog 0 000 |"], "nothing in common"),
        (["00000001 03 n 01"], "cannot be read"),
        (["00000001 03 n ffffffff cat 0 000 |", "00000002 03 n -1 dog"], "cannot be read|knows no"),
        (["\0" * 100], "cannot be read"),
    ],
)
def test_a_damaged_file_is_one_line_and_comes_to_an_end(tmp_path: Path, lines: list[str], message: str) -> None:
    (tmp_path / "data.noun").write_text("\n".join(lines))
    with pytest.raises(UserError, match=message) as error:
        wordnet.severity(np.eye(2), np.array([1, 0]), ("n00000001", "n00000002"), tmp_path)
    assert str(tmp_path) in str(error.value)
