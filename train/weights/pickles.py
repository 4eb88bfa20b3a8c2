"""PyTorch's pickles without PyTorch: tensors and plain values, and nothing that could run.

A pickle is a program for a machine with a stack. This machine knows what plain values and tensors take, calls nothing
but what rebuilds a tensor, and that computes nothing: it notes what the tensor would be. Python's own machines look up
attributes, and C's believes lengths and hashes tuples however deep they are, which ends the process.
"""

import pickletools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from train.errors import UserError

_DTYPES = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
# Bytes of a pickle. A tensor's name and shape take some 200; a list in a list takes one, and 80 in memory.
LARGEST = 2**20
# Numbers of a tensor whose own are fewer, because it repeats them (torch.Tensor.expand).
_MOST_REPEATED = 2**24
_MOST_SIDES = 64  # as NumPy has it
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_TEXTS = (
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"),
)
_MAKERS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}


class Storage(NamedTuple):
    """Numbers that tensors are views of."""

    key: str
    dtype: np.dtype
    numbers: int


class View(NamedTuple):
    """A tensor: a storage, the place of its first number, its shape, and how many numbers lie between neighbours."""

    storage: Storage
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Kind(NamedTuple):
    """A class of storages."""

    dtype: np.dtype


def load(data: bytes, place: str) -> tuple[Any, int]:
    """Return what a pickle of PyTorch holds: dicts, lists, tuples, numbers, texts, and a `View` for each tensor.

    Args:
      data: begins with the pickle.
      place: its file, for messages.

    Returns:
      what it holds, and how many bytes the pickle takes.

    Raises:
      UserError: it names what is no tensor.
      Exception: whatever a damaged one leads to (see `train.weights.file.reading`).
    """
    return _Unpickler(place).load(data[:LARGEST])


class _Unpickler:
    """A machine; its `find_class` and `persistent_load` are what Python's have under these names."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._storages: dict[str, Storage] = {}

    def load(self, data: bytes) -> tuple[Any, int]:
        for operation, argument, place in pickletools.genops(data):
            if operation.name == "STOP":
                return self._stack.pop(), (place or 0) + 1
            self._run(operation.name, argument)
        raise ValueError("a pickle has no end")  # which genops itself has found

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands here for a class or a function of that name."""
        if (module, name) not in _ALLOWED:
            raise self._refusal(f"names {module}.{name}, which is no tensor")
        return _ALLOWED[module, name]

    def persistent_load(self, reference: Any) -> Storage:
        """Return the storage that is referred to."""
        kind, storage, key, _, count, *view = reference
        if kind != "storage" or not isinstance(storage, _Kind) or not isinstance(key, str) or not _is_size(count):
            raise ValueError("a reference to what is no storage")
        if view and view[0] is not None:
            raise UserError(f"{self._place}: holds views of storages as PyTorch before 0.4 wrote them; save it again")
        found = Storage(key, storage.dtype, count)
        if self._storages.setdefault(key, found) != found:
            raise ValueError(f"storage {key} is of two sizes")
        return found

    def _run(self, operation: str, argument: Any) -> None:
        stack = self._stack
        match operation:
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self._marks.append(len(stack))
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._marked()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "DICT":
                stack.append(_dict(_pairs(self._marked())))
            case "LIST":
                stack.append(self._marked())
            case "TUPLE":
                stack.append(tuple(self._marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(operation[-1]))]
                stack.append(tuple(reversed(items)))
            case "APPEND":
                item = stack.pop()
                _of_type(list, stack[-1]).append(item)
            case "APPENDS":
                items = self._marked()
                _of_type(list, stack[-1]).extend(items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                _of_type(dict, stack[-1]).update(_dict([(key, value)]))
            case "SETITEMS":
                items = self._marked()
                _of_type(dict, stack[-1]).update(_dict(_pairs(items)))
            case "GLOBAL":
                stack.append(self.find_class(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(self.find_class(_of_type(str, module), _of_type(str, name)))
            case "REDUCE":
                arguments, function = _of_type(tuple, stack.pop()), stack.pop()
                stack.append(function(*arguments))
            case "BUILD":  # what an OrderedDict has besides its items: the `_metadata` of a state_dict
                stack.pop()
            case "BINPERSID":
                stack.append(self.persistent_load(stack.pop()))
            case "INST":
                raise self._refusal(f"makes an instance of {argument.replace(' ', '.', 1)}, which is no tensor")
            case _ if operation in _NUMBERS or operation in _TEXTS:
                stack.append(argument)
            case _ if operation in _MAKERS:
                stack.append(_MAKERS[operation]())
            case _:
                with_what = "" if argument is None else f" {argument}"
                raise self._refusal(f"does {operation}{with_what}, which no tensor takes")

    def _marked(self) -> list[Any]:
        """Return what has been put on the stack since the last mark, and take it away."""
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _refusal(self, what: str) -> UserError:
        return UserError(
            f"{self._place}: {what}; it is refused, for a pickle can run anything. Where you trust the file, save "
            "model.state_dict() alone from PyTorch"
        )


def _of_type(kind: type, value: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} in the place of a {kind.__name__}")
    return value


def _pairs(items: list[Any]) -> Iterable[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _dict(pairs: Iterable[tuple[Any, Any]] = ()) -> dict[Any, Any]:
    """Return a dict; its keys are no tuples, for tuples of tuples may take for ever to hash."""
    table = {}
    for key, value in pairs:
        if not isinstance(key, str | int | float | bytes | None):
            raise ValueError(f"a {type(key).__name__} is a key")
        table[key] = value
    return table


def _is_size(number: Any) -> bool:
    return isinstance(number, int) and 0 <= number < 2**63


def _view(storage: Storage, first: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> View:
    if not isinstance(storage, Storage) or not all(map(_is_size, (first, *shape, *strides))):
        raise ValueError("a tensor of what is no storage")
    view = View(storage, first, tuple(shape), tuple(strides))
    if len(view.shape) > _MOST_SIDES:
        raise ValueError(f"a tensor of {len(view.shape):,} dimensions")
    numbers, last = 1, first
    for side, stride in zip(view.shape, view.strides, strict=True):
        numbers, last = numbers * side, last + (side - 1) * stride
    if numbers and (last >= storage.numbers or numbers > max(storage.numbers, _MOST_REPEATED)):
        raise ValueError(f"a tensor {view.shape} of a storage with {storage.numbers:,} numbers")
    return view


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _dict,
    ("torch", "Size"): lambda sides=(): tuple(sides),
    ("torch._utils", "_rebuild_tensor"): _view,
    ("torch._utils", "_rebuild_tensor_v2"): _view,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    **{(module, name): _Kind(dtype) for name, dtype in _DTYPES.items() for module in ("torch", "torch.cuda")},
}
