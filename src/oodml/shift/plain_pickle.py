"""Read a pickle of plain containers, strings and numbers without unpickling it.

A pickle is a program. This runs the part of its instructions that build lists, tuples, dicts,
strings and numbers, and stands in for the functions that numpy's scalars are rebuilt by, itself
in Python: nothing a file names is imported or called, and any other name is refused.
"""

import pickletools
import re
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from oodml.errors import OodmlError

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"}
_TEXTS = {"STRING", "BINSTRING", "SHORT_BINSTRING"}
_TEXTS |= {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_BYTES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_LITERALS = _NUMBERS | _TEXTS | _BYTES
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = {"PROTO", "FRAME", "STOP"}


def load_plain(data: bytes) -> Any:
    """The object that a pickle describes, numpy scalars as plain ones.

    `OodmlError` on a name or an instruction that is not allowed, and on a damaged or cut file.
    """
    machine, position = _Machine(), 0
    try:
        for opcode, argument, place in pickletools.genops(data):
            position = place or 0
            machine.run(opcode.name, argument)
        return machine.result()
    except OodmlError as error:
        raise OodmlError(f"byte {position}: {error}") from None
    except (ValueError, TypeError, LookupError, OverflowError, struct.error) as error:
        raise OodmlError(
            f"not a whole pickle; it breaks off or is damaged at byte {position}: "
            f"{str(error)[:120]}"
        ) from None


class _Machine:
    """The stack, the marks on it and the memo of a pickle's program."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, name: str, argument: Any) -> None:
        """Carry out one instruction."""
        if name in _LITERALS:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self._stack.append(tuple(self._pop(_TUPLES[name])))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name not in _IGNORED:
            step = _STEPS.get(name)
            if step is None:
                raise OodmlError(f"the pickle instruction {name} has no place in a split file")
            step(self, argument)

    def result(self) -> Any:
        """What the program left."""
        if len(self._stack) != 1 or self._marks:
            raise ValueError("the program does not end with one object")
        return self._stack[0]

    def _pop(self, count: int) -> list[Any]:
        if count > len(self._stack) - (self._marks[-1] if self._marks else 0):
            raise IndexError("an instruction finds too little on the stack")
        taken = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return taken

    def _pop_to_mark(self) -> list[Any]:
        count = len(self._stack) - self._marks[-1]
        taken = self._pop(count)
        self._marks.pop()
        return taken

    def _mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def _empty_list(self, _: Any) -> None:
        self._stack.append([])

    def _empty_dict(self, _: Any) -> None:
        self._stack.append({})

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _list(self, _: Any) -> None:
        self._stack.append(self._pop_to_mark())

    def _dict(self, _: Any) -> None:
        items = self._pop_to_mark()
        self._stack.append({})
        self._set(items)

    def _append(self, _: Any) -> None:
        self._extend(self._pop(1))

    def _appends(self, _: Any) -> None:
        self._extend(self._pop_to_mark())

    def _setitem(self, _: Any) -> None:
        self._set(self._pop(2))

    def _setitems(self, _: Any) -> None:
        self._set(self._pop_to_mark())

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(_allowed(module, name))

    def _stack_global(self, _: Any) -> None:
        module, name = self._pop(2)
        self._stack.append(_allowed(str(module), str(name)))

    def _reduce(self, _: Any) -> None:
        function, arguments = self._pop(2)
        if function not in _FUNCTIONS or type(arguments) is not tuple:
            raise TypeError("a call of something that is no function")
        self._stack.append(function(*arguments))

    def _build(self, _: Any) -> None:
        (state,) = self._pop(1)
        if type(self._stack[-1]) is not _Dtype:
            raise TypeError("a state for something that is no numpy dtype")
        self._stack[-1].set_state(state)

    def _extend(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise TypeError("items appended to something that is no list")
        self._stack[-1].extend(items)

    def _set(self, items: list[Any]) -> None:
        if type(self._stack[-1]) is not dict or len(items) % 2:
            raise TypeError("items set in something that is no dict, or a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Only these are hashed without recursion, which a file could make endless.
            if type(key) not in (str, int):
                raise TypeError(f"a key of type {type(key).__name__}")
            self._stack[-1][key] = value


_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": _Machine._mark,
    "EMPTY_LIST": _Machine._empty_list,
    "EMPTY_DICT": _Machine._empty_dict,
    "TUPLE": _Machine._tuple,
    "LIST": _Machine._list,
    "DICT": _Machine._dict,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._setitem,
    "SETITEMS": _Machine._setitems,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "REDUCE": _Machine._reduce,
    "BUILD": _Machine._build,
}


class _Dtype:
    """Stands in for a numpy dtype of numbers or text."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        if type(code) is not str or not re.fullmatch(r"[fiubUS][0-9]{1,6}", code):
            raise ValueError(f"a numpy dtype that is no number or text: {str(code)[:20]!r}")
        self.code = code
        self.order = "<"

    def set_state(self, state: Any) -> None:
        """Take the byte order from the state tuple that numpy pickles."""
        if type(state) is not tuple or len(state) < 3 or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("a numpy dtype with a strange state")
        if state[2] is not None:
            raise ValueError("a numpy dtype with a subtype")
        self.order = state[1]


def _scalar(dtype: Any, data: Any) -> Any:
    """Stands in for numpy.core.multiarray.scalar."""
    if type(dtype) is not _Dtype or type(data) not in (bytes, str):
        raise TypeError("a numpy scalar of a strange type")
    raw = data if type(data) is bytes else data.encode("latin-1")
    if dtype.code[1:].strip("0") == "":
        return ""
    values = np.frombuffer(raw, dtype=np.dtype(dtype.order + dtype.code))
    if len(values) != 1:
        raise ValueError("a numpy scalar whose bytes don't fit its type")
    # numpy raises a SystemError where it makes a str of these.
    if dtype.code[0] == "U" and np.frombuffer(raw, dtype.order + "u4").max() > sys.maxunicode:
        raise ValueError("text of characters that do not exist")
    return values[0].item()


def _encode(text: Any, encoding: Any) -> bytes:
    """Stands in for _codecs.encode, by which old pickles hold bytes."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise TypeError("text in a strange encoding")
    return text.encode("latin-1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
}
_FUNCTIONS = tuple(_ALLOWED.values())


def _allowed(module: str, name: str) -> Callable[..., Any]:
    found = _ALLOWED.get((module, name))
    if found is None:
        allowed = ", ".join(".".join(pair) for pair in _ALLOWED)
        raise OodmlError(
            f"the pickle names {module[:60]}.{name[:60]}, which could run code; nothing was run. "
            f"Allowed: {allowed}"
        )
    return found
