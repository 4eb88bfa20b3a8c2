"""What a terminal is shown: whatever names hold is text on it, moves no cursor, and is one line."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def printable(text: str) -> str:
    """Return a text with a backslash and a number for each character that is none to look at."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def console(width: int | None = None) -> "Console":
    """Return what prints tables, in whose cells square brackets and colons are what they are."""
    from rich.console import Console  # 0.1 s

    return Console(width=width, markup=False, emoji=False)
