"""Pickles, written operation by operation: what tensors take is read, all else is refused by its name."""

import pickle
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import little_memory
from train.errors import UserError
from train.weights import pickles
from train.weights.file import reading
from train.weights.pickles import Storage, View

# Of Python's pickletools: the operations that the names below stand for.
MARK, STOP, TUPLE, REDUCE, BUILD, NONE, DUP, POP = b"(", b".", b"t", b"R", b"b", b"N", b"2", b"0"
DICT, SETITEM, SETITEMS, LIST, APPEND, REFERENCE, FALSE = b"}", b"s", b"u", b"]", b"a", b"Q", b"\x89"


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def several(*items: bytes) -> bytes:
    return MARK + b"".join(items) + TUPLE


def numbers(values: Iterable[int]) -> bytes:
    return several(*map(number, values))


def storage(key: str, count: int, kind: str = "FloatStorage", *view: bytes) -> bytes:
    parts = (text("storage"), name("torch", kind), text(key), text("cpu"), number(count), *view)
    return several(*parts) + REFERENCE


def tensor(
    shape: tuple[int, ...], strides: tuple[int, ...], first: int = 0, *, of: bytes, by: str = "_rebuild_tensor_v2"
) -> bytes:
    hooks = name("collections", "OrderedDict") + b")" + REDUCE
    arguments = several(of, number(first), numbers(shape), numbers(strides), FALSE, hooks)
    return name("torch._utils", by) + arguments + REDUCE


def table(tensors: dict[str, bytes]) -> bytes:
    items = b"".join(text(key) + value for key, value in tensors.items())
    return name("collections", "OrderedDict") + b")" + REDUCE + MARK + items + SETITEMS


def program(body: bytes) -> bytes:
    return b"\x80\x02" + body + STOP


def refused(data: bytes) -> str:
    """Return the line that a pickle ends in."""
    with pytest.raises(UserError) as error, reading(Path("F"), "PyTorch"):
        pickles.load(data, "F")
    line = str(error.value)
    assert line.isprintable()
    assert len(line) < 1100
    return line


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner)
    ),
)


@given(value=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_what_python_reads(value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    assert pickles.load(data + b"what follows", "F") == (value, len(data))


def test_what_is_shared_and_what_holds_itself_comes_back_as_such() -> None:
    inner: dict[str, object] = {"a": [1.5]}
    inner["self"] = inner
    back, _ = pickles.load(pickle.dumps([inner, inner]), "F")
    assert back[0] is back[1]
    assert back[0]["self"] is back[0]


@pytest.mark.parametrize("by", ["_rebuild_tensor", "_rebuild_tensor_v2"])
def test_a_tensor_is_noted_and_not_made(by: str) -> None:
    made = tensor((2, 3), (1, 4), 5, of=storage("7", 15, "DoubleStorage"), by=by)
    parameter = name("torch._utils", "_rebuild_parameter") + several(made, FALSE, NONE) + REDUCE
    for body in (made, parameter):
        view, _ = pickles.load(program(body), "F")
        assert view == View(Storage("7", view.storage.dtype, 15), 5, (2, 3), (1, 4))
        assert view.storage.dtype == "float64"
    # Its last number is the fifteenth: 5 + 1 * 1 + 2 * 4, counted from 0.
    assert "of a storage with 14 numbers" in refused(program(tensor((2, 3), (1, 4), 5, of=storage("7", 14), by=by)))


def test_what_an_ordered_dict_has_besides_its_items_is_left_out() -> None:
    shadows = b"".join(text(method) + NONE for method in ("items", "values", "get", "_metadata"))
    back, _ = pickles.load(program(table({}) + DICT + MARK + shadows + SETITEMS + BUILD), "F")
    assert back == {}


COMMAND = text("touch RAN")
RUNS = {
    "os.system": name("os", "system") + several(COMMAND) + REDUCE,
    "posix.system": name("posix", "system") + several(COMMAND) + REDUCE,
    "nt.system": name("nt", "system") + several(COMMAND) + REDUCE,
    "subprocess.check_output": name("subprocess", "check_output") + several(COMMAND) + REDUCE,
    "builtins.eval": name("builtins", "eval") + several(text("open('RAN', 'w')")) + REDUCE,
    "__builtin__.exec": name("__builtin__", "exec") + several(text("open('RAN', 'w')")) + REDUCE,
    "builtins.getattr": name("builtins", "getattr") + several(name("os", "path"), text("os")) + REDUCE,
    "operator.attrgetter": name("operator", "attrgetter") + several(text("system")) + REDUCE,
    "functools.partial": name("functools", "partial") + several(name("os", "system"), COMMAND) + REDUCE,
    "importlib.import_module": name("importlib", "import_module") + several(text("antigravity")) + REDUCE,
    "torch.hub.load": name("torch.hub", "load") + several(text("someone/repository"), text("model")) + REDUCE,
    "torch.load": name("torch", "load") + several(text("other.pth")) + REDUCE,
    "torch.storage._load_from_bytes": name("torch.storage", "_load_from_bytes") + several(text("bytes")) + REDUCE,
    "torch.jit.unsupported_tensor_ops.execWrapper": name("torch.jit.unsupported_tensor_ops", "execWrapper"),
    "torch.OrderedDict": name("torch", "OrderedDict") + b")" + REDUCE,
    "torch._utils._rebuild_tensor_v2.__globals__": text("torch._utils")
    + text("_rebuild_tensor_v2.__globals__")
    + b"\x93",
    "collections.OrderedDict.fromkeys": text("collections") + text("OrderedDict.fromkeys") + b"\x93",
    "copyreg._reconstructor": name("copyreg", "_reconstructor") + several(name("os", "system"), NONE, NONE) + REDUCE,
    "copy_reg._reconstructor": name("copy_reg", "_reconstructor"),
    "numpy.core.multiarray.scalar": name("numpy.core.multiarray", "scalar"),
    "numpy._core.multiarray._reconstruct": name("numpy._core.multiarray", "_reconstruct"),
    "numpy.dtype": name("numpy", "dtype") + several(text("f4"), FALSE, FALSE) + REDUCE,
    "_codecs.encode": name("_codecs", "encode") + several(text("a"), text("latin1")) + REDUCE,
    "pathlib.PosixPath": name("pathlib", "PosixPath"),
    "__main__.Net": name("__main__", "Net") + b")\x81" + DICT + BUILD,
    "argparse.Namespace": name("argparse", "Namespace") + b")\x81" + DICT + BUILD,
}


@pytest.mark.parametrize("named", RUNS)
def test_a_pickle_that_could_run_something_is_refused_and_named(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hidden = {  # the same within what is allowed
        "alone": RUNS[named],
        "as a value": table({"a.weight": RUNS[named]}),
        "as a tensor's storage": tensor((1,), (1,), of=RUNS[named]),
        "as a reference": several(text("storage"), RUNS[named], text("0"), text("cpu"), number(1)) + REFERENCE,
        "as the state of a dict": table({}) + RUNS[named] + BUILD,
        "taken away again": RUNS[named] + POP + DICT,
    }
    for body in hidden.values():
        line = refused(program(body))
        assert line.startswith(f"F: names {named}, which is no tensor; it is refused, for a pickle can run anything")
        assert line.endswith("save model.state_dict() alone from PyTorch")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (MARK + COMMAND + b"ios\nsystem\n", "makes an instance of os.system, which is no tensor"),
        (MARK + name("collections", "OrderedDict") + b"o", "does OBJ, which no tensor takes"),
        (name("collections", "OrderedDict") + b")\x81", "does NEWOBJ, which"),
        (name("collections", "OrderedDict") + b")" + DICT + b"\x92", "does NEWOBJ_EX, which"),
        (b"\x82\x01", "does EXT1 1, which"),
        (b"\x83\x01\x00", "does EXT2 1, which"),
        (b"\x84\x01\x00\x00\x00", "does EXT4 1, which"),
        (b"Pos.system\n", "does PERSID os.system, which"),
        (b"\x97", "does NEXT_BUFFER, which"),
        (b"\x8f", "does EMPTY_SET, which"),
        (MARK + b"\x91", "does FROZENSET, which"),
        (b"\x96" + struct.pack("<Q", 3) + b"abc", "does BYTEARRAY8 bytearray(b'abc'), which"),
    ],
)
def test_operations_that_tensors_do_not_take_are_refused_and_named(body: bytes, words: str) -> None:
    assert f"F: {words}" in refused(program(body))


@pytest.mark.parametrize(
    "body",
    [
        text("touch RAN") + several(COMMAND) + REDUCE,  # calls a text
        name("torch", "FloatStorage") + several(number(9)) + REDUCE,  # a kind of storage
        tensor((1,), (1,), of=storage("0", 1)) + several() + REDUCE,
        name("torch", "Size") + b")" + REDUCE + NONE + REDUCE,
        name("collections", "OrderedDict") + several(several(NONE)) + REDUCE,
        name("torch._utils", "_rebuild_tensor_v2") + several(NONE, number(0), numbers(()), numbers(())) + REDUCE,
        name("torch._utils", "_rebuild_tensor_v2") + b")" + REDUCE,
        tensor((1,), (1,), of=several(text("module"), NONE, text("0"), NONE, number(1)) + REFERENCE),
        tensor((1,), (1,), of=several(text("storage"), text("a"), text("0"), NONE, number(1)) + REFERENCE),
        tensor((1,), (1,), of=text("storage") + REFERENCE),
        tensor((2, 2), (2,), of=storage("0", 4)),
        tensor((1,), (1,), -1, of=storage("0", 4)),
        tensor((-1,), (1,), of=storage("0", 4)),
        tensor((2,), (-1,), of=storage("0", 4)),
        storage("0", -1),
        several(storage("0", 4), storage("0", 5)),  # one storage of two sizes: numbers behind its end
        several(storage("0", 4), storage("0", 4, "DoubleStorage")),
        b"h\x05",  # a memo that is empty
        b"j\xff\xff\xff\xff",
        TUPLE,
        SETITEMS,
        POP,
        b"q\x00",
        DICT + NONE + APPEND,
        LIST + NONE + NONE + SETITEM,
        DICT + MARK + NONE + SETITEMS,
        DICT + several() + NONE + SETITEM,
        b"",
    ],
)
def test_what_makes_no_sense_is_one_line(body: bytes) -> None:
    assert refused(program(body)).startswith("F: cannot be read as a PyTorch file (")


def test_views_of_storages_as_they_were_before_0_4_are_named() -> None:
    of = storage("0", 4, "FloatStorage", several(text("1"), number(0), number(4)))
    assert "holds views of storages as PyTorch before 0.4 wrote them" in refused(program(tensor((1,), (1,), of=of)))


@pytest.mark.parametrize(
    ("shape", "strides", "count"),
    [
        ((10**6, 10**6), (10**6, 1), 10),  # more numbers than the storage has
        ((2,), (10**12,), 10),  # as far apart
        ((10**12,), (0,), 1),  # one number, repeated
        ((10**6, 10**6), (1, 1), 2 * 10**6),  # overlapping
        ((2**40,) * 60, (0,) * 60, 1),
        ((1,) * 100, (1,) * 100, 1),
        ((2**64, 0), (1, 1), 1),
        ((1,), (2**70,), 1),
    ],
)
def test_a_tensor_that_claims_more_than_its_storage_has_is_refused(
    shape: tuple[int, ...], strides: tuple[int, ...], count: int
) -> None:
    refused(program(tensor(shape, strides, of=storage("0", count))))


@pytest.mark.parametrize(
    "body",
    [
        b"\x8e" + struct.pack("<Q", 10**12),  # BINBYTES8
        b"\x8d" + struct.pack("<Q", 10**12),  # BINUNICODE8
        b"\x96" + struct.pack("<Q", 10**12),  # BYTEARRAY8
        b"\x95" + struct.pack("<Q", 2**62) + b"h\x00",  # FRAME
        b"\x8b" + struct.pack("<I", 2**31 - 1),  # LONG4
        b"\x8b" + struct.pack("<I", 2**32 - 1),
        b"X" + struct.pack("<I", 2**32 - 1),
        b"T" + struct.pack("<I", 2**31 - 1),
        NONE + b"r" + struct.pack("<I", 2**32 - 1) + b"h\x00",  # LONG_BINPUT: a place in the memo
        NONE + b"p99999999999999\nh\x00",
        b"I" + b"9" * 10_000 + b"\n",
        b"L0x" + b"f" * 10_000 + b"L\n" + b"h\x00",
    ],
)
def test_lengths_that_are_not_there_take_no_memory(body: bytes) -> None:
    data = program(body)
    with little_memory(2**20):
        refused(data)


def test_tuples_that_nobody_can_hash_are_no_keys() -> None:
    deep = NONE + b"\x85" * 200_000  # as many calls, one within the other: the end of Python's own
    assert "a tuple is a key" in refused(program(DICT + deep + NONE + SETITEM))
    key = NONE + (DUP + b"\x86") * 200  # a pair of one and the same pair, and so on: 2**200 calls
    for body in (DICT + key + NONE + SETITEM, DICT + MARK + key + NONE + SETITEMS, MARK + key + NONE + b"d"):
        assert "a tuple is a key" in refused(program(body))
    pairs = several(LIST + key + NONE + b"\x86" + APPEND)
    assert "a tuple is a key" in refused(program(name("collections", "OrderedDict") + pairs + REDUCE))
    of = several(text("storage"), name("torch", "FloatStorage"), key, text("cpu"), number(1)) + REFERENCE
    assert "a reference to what is no storage" in refused(program(of))


def test_more_than_tables_of_tensors_take_is_not_read_on() -> None:
    assert "is it whole?" in refused(program(b"0".join([NONE] * pickles.LARGEST)))


def test_a_name_that_moves_the_cursor_or_fills_the_screen_stays_one_line() -> None:
    assert r"names a\n\x1b[2Jb.c, which" in refused(program(text("a\n\x1b[2Jb") + text("c") + b"\x93"))
    assert refused(program(text("a" * 100_000) + text("b\nc") + b"\x93")).endswith("alone from PyTorch")
