"""Every error message of the code, as docs/errors.md lists them: `python -m tests.messages > docs/errors.md`."""

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from train.errors import AGAIN

CHECKOUT = Path(__file__).resolve().parent.parent
ROOMS = ("scripts", "train", "models", "configs")

# What is raised and becomes one line by itself, and what becomes a part of such a line.
WHOLE = {"UserError", "_Unsaid", "locked", "_fail", "SystemExit", "super().__init__"}
PART = {"_Unreadable", "NotFiniteError", "NetworkError", "GeometryError", "BadImage", "ValueError"}

# Functions whose texts become a part of a message, or a message, without being raised where they stand.
SAY = {
    "scripts/command_line.py": ("_unknown_key", "explain"),
    "train/data/photos.py": ("_sizes_differ",),
    "train/integrity.py": ("diverged",),
    "train/predict.py": ("_batches",),
    "train/rules.py": ("one_of", "between", "every", "_different_names", "_range_of_pixels", "<lambda>"),
    "train/settings.py": ("no_variant",),
    "train/sweep/folder.py": ("check_ends",),
    "train/watching.py": ("watch", "_explain"),
}

_INTRODUCTION = """# Errors

What a user can mend is one line on stderr, `error: ...`, and the status 1; `--debug` shows where it came from. Each
names the thing (a key, a flag, a file, an image), the place, and the next step. 0 is success; 128 + a signal's number
is an interruption (130: Ctrl-C, 143: SIGTERM), after which the same command goes on. A traceback is a fault of this
program: please report it.

The lists are made from the code (`python -m tests.messages > docs/errors.md`; a test holds them to it). `{name}` stands
for what the message fills in. Lines that begin with `...` become part of another: of `config.KEY=VALUE: ...`, of
`FILE: cannot be read as a KIND file (...); is it whole?`, or of what names the file or the stage. To find yours, search
for a few of its words; the heading says which part of the program has spoken.
"""


class Message(NamedTuple):
    """A message of the code.

    Attributes:
      file: path in the checkout.
      line: where it is made.
      whole: whether it is a line by itself.
      text: with `{name}` for what is filled in.
    """

    file: str
    line: int
    whole: bool
    text: str


def messages() -> Iterator[Message]:
    """Yield all of them, file by file, in the order of the lines."""
    for room in ROOMS:
        for path in sorted((CHECKOUT / room).rglob("*.py")):
            tree = ast.parse(path.read_text())
            file = path.relative_to(CHECKOUT).as_posix()
            found = {
                (at, whole, text) for at, whole, text in _of_file(tree, file) if re.search("[a-z]{3}", _fixed(text))
            }
            for line, whole, text in sorted(found):
                yield Message(file, line, whole, text)


def untold() -> Iterator[str]:
    """Yield where a user's error is made of what a function or a variable holds, as FILE: CODE."""
    for room in ROOMS:
        for path in sorted((CHECKOUT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not (isinstance(node, ast.Call) and node.args and _name(node.func) in WHOLE - {"super().__init__"}):
                    continue
                if not list(_texts(node.args[-1])):
                    yield f"{path.relative_to(CHECKOUT).as_posix()}: {ast.unparse(node.args[0])}"


def _of_file(tree: ast.Module, file: str) -> Iterator[tuple[int, bool, str]]:
    # A method that returns a UserError makes the frame; what is raised by its name fills it in.
    makers = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and isinstance(node.returns, ast.Name) and node.returns.id in WHOLE
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            name = _name(node.func)
            for text in _texts(node.args[-1]):
                if name in WHOLE:
                    yield node.lineno, True, text.removeprefix("error: ")
                elif name in PART | makers:
                    yield node.lineno, False, text
        said = node.name if isinstance(node, ast.FunctionDef) else "<lambda>" if isinstance(node, ast.Lambda) else ""
        if said in SAY.get(file, ()):
            for at, text in _said(node):
                yield at, text.startswith("error: "), text.removeprefix("error: ")


def _said(function: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield what a function's texts can be, with their lines: those that are returned, yielded, printed or kept."""
    docstring = ast.get_docstring(function, clean=False) if isinstance(function, ast.FunctionDef) else None
    inside = {id(part) for node in ast.walk(function) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)} - {
        id(node) for node in ast.walk(function) if isinstance(node, ast.JoinedStr)
    }
    # What is compared or searched for is not said.
    compared = (node for node in ast.walk(function) if isinstance(node, ast.Compare) or _searches(node))
    inside |= {id(part) for node in compared for part in ast.walk(node)}
    for node in ast.walk(function):
        if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in inside:
            for text in _texts(node):
                if text != docstring and re.search(r"[a-z] [a-z]", text):
                    yield node.lineno, text


def _searches(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).startswith("re.")


def _texts(node: ast.expr) -> Iterator[str]:
    """Yield what an expression can be."""
    match node:
        case ast.Constant(value=str(text)):
            yield text
        case ast.JoinedStr(values=values):
            parts = [part.value if isinstance(part, ast.Constant) else f"{{{_field(part)}}}" for part in values]
            yield "".join(map(str, parts)).replace(f"{{{AGAIN}}}", AGAIN)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            yield from (one + other for one in _texts(left) for other in _texts(right))
        case ast.IfExp(body=body, orelse=orelse):
            yield from (*_texts(body), *_texts(orelse))
        case ast.Call(func=ast.Name(id="_line"), args=[text]):
            yield from _texts(text)


def _field(node: ast.AST) -> str:
    """Return a short name for what is filled in."""
    match node:
        case ast.FormattedValue(value=value) | ast.Starred(value=value) | ast.Await(value=value):
            return _field(value)
        case ast.Name(id="AGAIN"):
            return AGAIN
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").lower()
        case ast.Constant(value=value):
            return str(value)
        case ast.Call(func=ast.Name(id="nearest")):
            return "; nearest: NAME"
        case ast.Call(func=ast.Attribute(value=ast.Name() as of), args=[]):
            return _field(of)
        case ast.Call(func=func, args=arguments):
            return _field(next((given for given in arguments if not isinstance(given, ast.Constant)), func))
        case ast.Subscript(value=value):
            return _field(value)
        case ast.ListComp(generators=[over, *_]) | ast.GeneratorExp(generators=[over, *_]):
            return _field(over.iter)
        case ast.BinOp(left=left) | ast.BoolOp(values=[left, *_]):
            return _field(left)
        case ast.IfExp(body=body, orelse=orelse):
            return " | ".join(filter(None, (_field(body), _field(orelse))))
    return "..."


def _name(function: ast.expr) -> str:
    text = ast.unparse(function)  # a subclass of UserError frames its text in super().__init__
    return text if text == "super().__init__" else text.rpartition(".")[2]


def _fixed(text: str) -> str:
    return re.sub(r"\{[^}]*\}", "", text)


def document(found: Iterable[Message]) -> str:
    """Return docs/errors.md."""
    parts, room, file = [_INTRODUCTION], "", ""
    for message in sorted(found, key=lambda message: message.file.rpartition("/")[::2]):
        folder, _, name = message.file.rpartition("/")
        if folder != room:
            parts.append(f"\n## {folder}/\n")
        if message.file != file:
            parts.append(f"\n**`{name}`**\n\n")
        room, file = folder, message.file
        text = ("" if message.whole else "... ") + " ".join(message.text.split())
        parts.append(f"- {'``' if '`' in text else '`'}{text}{'``' if '`' in text else '`'}\n")
    return "".join(parts)


if __name__ == "__main__":
    sys.stdout.write(document(messages()))
