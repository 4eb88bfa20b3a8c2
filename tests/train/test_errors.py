"""What a command says of an error: one line where a user can mend it."""

from train.errors import in_one_line


def test_want_of_memory_is_a_line_whoever_wants_it() -> None:
    assert in_one_line(MemoryError()) == (
        "it takes more memory than there is (no more is said); end other programs, and run the same command again"
    )
    text = "INTERNAL: Error dispatching computation: Out of memory allocating 16 bytes.\nat some place"
    line = in_one_line(RuntimeError(text))
    assert line is not None
    assert line.startswith(
        "it takes more memory than the devices have (INTERNAL: Error dispatching computation: Out of"
    )
    assert line.endswith("run the same command again")
    assert "some place" not in line
    assert in_one_line(RuntimeError("of ours")) is None
    assert in_one_line(ValueError("RESOURCE_EXHAUSTED: No space left on device")) is None
    assert in_one_line(RuntimeError("RESOURCE_EXHAUSTED: Attempting to allocate 2.1G. That was not possible."))
