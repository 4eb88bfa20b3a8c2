"""Photos that were looked at before, and what has changed since."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.train.data.test_folder import photo
from train.data import folder, seen
from train.errors import UserError

COUNT = 12


@pytest.fixture(autouse=True)
def _kept_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(seen, "_WORTH", COUNT)
    monkeypatch.setattr(seen, "_SETTLED", -60_000_000_000)  # as if all was written a minute ago


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index in range(COUNT):
        photo(tmp_path / "photos" / ("ants" if index % 3 else "bees") / f"{index}.jpg", index)
    return tmp_path / "photos"


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What has been looked at since it was last asked."""
    names: list[str] = []
    look_at = folder._look_at

    def noted(path: Path, root: Path) -> seen.Look:
        names.append(path.relative_to(root).as_posix())
        return look_at(path, root)

    monkeypatch.setattr(folder, "_look_at", noted)

    def since() -> list[str]:
        some = sorted(names)
        names.clear()
        return some

    return since


def read(root: Path, *, skip_bad_images: bool = True) -> tuple[str, tuple[str, ...]]:
    source = folder.read(root, skip_bad_images=skip_bad_images)
    return source.splits["train"].records.fingerprint, source.skipped


def test_a_second_start_opens_nothing_and_sees_the_same(root: Path, opened: Callable[[], list[str]]) -> None:
    (root / "ants" / "bad.jpg").write_bytes(b"no photo")
    first = read(root)
    assert len(opened()) == COUNT + 1
    assert read(root) == first
    assert opened() == []
    with pytest.raises(UserError, match=r"bad\.jpg: must be a JPEG"):
        read(root, skip_bad_images=False)


def test_what_has_changed_is_looked_at(root: Path, opened: Callable[[], list[str]]) -> None:
    first, _ = read(root)
    opened()
    changed = root / "ants" / "1.jpg"
    before = changed.stat()
    data = bytearray(changed.read_bytes())
    data[-3] ^= 1
    changed.write_bytes(data)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copying program would
    photo(root / "bees" / "new.jpg", 99)
    (root / "ants" / "2.jpg").unlink()
    second, _ = read(root)
    assert opened() == ["ants/1.jpg", "bees/new.jpg"]
    assert second != first
    seen._place(root).unlink()
    assert read(root)[0] == second


def test_links_are_always_looked_at(root: Path, tmp_path: Path, opened: Callable[[], list[str]]) -> None:
    (root / "bees" / "link.jpg").symlink_to(root / "ants" / "1.jpg")
    read(root)
    opened()
    read(root)
    assert opened() == ["bees/link.jpg"]
    (root / "bees" / "link.jpg").unlink()
    # Moved, its files keep all that tells that they have not changed.
    (root / "ants").rename(tmp_path / "elsewhere")
    (root / "ants").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="or below one, out of"):
        read(root, skip_bad_images=False)


def test_what_was_changed_a_moment_ago_is_not_kept(
    root: Path, opened: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "_SETTLED", 3_600_000_000_000)
    for _ in range(2):
        read(root)
        assert len(opened()) == COUNT


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1, 2]", b'{"ants/1.jpg": 3}', b'{"ants/1.jpg": [null, 3, []]}', b"\xff" * 99]
)
def test_a_damaged_file_says_nothing(root: Path, opened: Callable[[], list[str]], content: bytes) -> None:
    first = read(root)
    opened()
    seen._place(root).write_bytes(content)
    assert read(root) == first
    assert len(opened()) == COUNT


def test_what_could_not_be_read_is_looked_at_again(
    root: Path, opened: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read(root)
    seen._place(root).unlink()
    undisturbed = Path.open

    def disturbed(path: Path, *how: Any, **more: Any) -> Any:
        if path.name == "5.jpg":
            raise OSError(5, "Input/output error")
        return undisturbed(path, *how, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", disturbed)
        assert "cannot be read (Input/output error)" in read(root)[1][0]
    opened()
    assert read(root) == whole
    assert opened() == ["ants/5.jpg"]


def test_other_rules_look_again(root: Path, opened: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    read(root)
    monkeypatch.setattr(seen.decode, "DECODERS", "others")
    opened()
    read(root)
    assert len(opened()) == COUNT
    assert len(list(seen._place(root).parent.iterdir())) == 1


def test_without_a_place_for_it_all_is_looked_at_again(
    root: Path, tmp_path: Path, opened: Callable[[], list[str]]
) -> None:
    (tmp_path / "cache").write_text("a file")
    assert read(root) == read(root)
    assert len(opened()) == 2 * COUNT


def test_an_interrupted_look_is_gone_on_with(
    root: Path, opened: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    look_at = folder._look_at

    def interrupted(path: Path, root: Path) -> seen.Look:
        if path.name == "9.jpg":
            raise KeyboardInterrupt
        return look_at(path, root)

    monkeypatch.setattr(seen, "_PART", 1)
    with monkeypatch.context() as patched:
        patched.setattr(folder, "_look_at", interrupted)
        with pytest.raises(KeyboardInterrupt):
            read(root)
    assert "ants/1.jpg" in opened()
    read(root)
    assert "bees/9.jpg" in (left := opened())
    assert "ants/1.jpg" not in left
