"""docs/errors.md lists what the code says, and what it says can be acted upon."""

import re

from tests.messages import CHECKOUT, document, messages, untold


def test_the_document_lists_the_messages_of_the_code() -> None:
    text = (CHECKOUT / "docs/errors.md").read_text()
    assert text == document(messages()), "write it anew: python -m tests.messages > docs/errors.md"
    assert "`{path}: ends within its header; bring the whole file`" in text  # one that stands there word by word


def test_no_message_is_missing() -> None:
    """These alone pass on what another place says, which is listed there."""
    assert set(untold()) == {
        "scripts/command.py: explain(error)",
        "scripts/command.py: line",
        "scripts/command_line.py: _unknown_key(key)",
        "train/data/photos.py: self._sizes_differ(index, image, images[0])",
        "train/data/photos.py: self._sizes_differ(int(self.index[index[0]]), part.images[0], parts[0].images[0])",
        "train/loop.py: diverged(error, rate, kept, state())",
        "train/sweep/folder.py: '; '.join(wrong)",
        "train/weights/file.py: _line(str(error))",
        "train/whole.py: str(error).replace(str(draft), str(path))",
    }


def test_each_message_says_what_to_do() -> None:
    """It has a next step behind a semicolon, says what something must be, or lists the choices."""
    step = re.compile(
        r"; (?!nearest)|[:.] (begin|bring|give|install|leave|put|take|set|train)|must |takes?\b|needs?\b|begins? with|"
        r"(is|are) (missing|needed)|run it as|flags start|lists them|makes them|a name like|is it of|the network makes",
        re.IGNORECASE,
    )
    relayed = re.compile(r"(: |^)(\{[^}]*\} ?)+$")  # what is wrong, and what to do, comes from elsewhere
    listed = re.compile(r"\{(stages|maps|some|layers|formats|suffixes|why|hint|again|inside)\}")
    without = [
        f"{message.file}:{message.line}: {message.text}"
        for message in messages()
        if message.whole and not any(kind.search(message.text) for kind in (step, relayed, listed))
    ]
    assert not without, "\n".join(without)
