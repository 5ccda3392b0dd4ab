"""The layout of the published split files, `<dataset>_splits.pkl`, as plain Python objects."""

import io
import pickle
import pickletools
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from oodml.errors import OodmlError, error_at
from oodml.shift.splits import Episode, Progression, Split

MOST_INSTRUCTIONS = 20_000_000
MOST_TUPLES = 1000
"""Tuples that are not arguments of a numpy scalar. Deeper nesting would overflow the C stack when
such a tuple becomes the key of a dict."""
_TUPLES = {"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_CALLS = {"REDUCE", "BUILD"}
_OTHERS = (
    "NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT STRING BINSTRING "
    "SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES "
    "BINBYTES8 EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS PROTO FRAME STOP "
    "MARK GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL"
)
_ALLOWED = _TUPLES | _PUTS | _CALLS | set(_OTHERS.split())
_KEYS = ("train", "test", "fid", "split_train", "split_val", "test_episodes", "step")
_REQUIRED = ("train", "test", "fid")
# A pickle can refer to one list any number of times; this limits the expanded size.
_MOST_NAMES = 5_000_000


def load_plain(data: bytes) -> Any:
    """Unpickle containers, strings, and numbers; refuse anything that could run code.

    The instructions are checked first: only those that build plain values are allowed, and their
    number, the memo indices, and the nesting of tuples are limited. The only names that resolve are
    those by which numpy rebuilds scalars; they resolve to the functions of this file.
    """
    _check_instructions(data)
    try:
        return _Unpickler(io.BytesIO(data), encoding="latin-1").load()
    except OodmlError:
        raise
    except Exception as error:  # a damaged pickle can fail in any of its instructions
        raise OodmlError(f"damaged pickle: {str(error)[:120]}") from None


def _check_instructions(data: bytes) -> None:
    position = count = puts = tuples = 0
    previous = ""
    try:
        for instruction, argument, byte in pickletools.genops(data):
            position, name, count = byte or 0, instruction.name, count + 1
            if name not in _ALLOWED:
                raise ValueError(f"instruction {name} is not allowed in a split file")
            if name in _PUTS:
                puts += 1
                if type(argument) is int and argument > 2 * puts + 256:
                    raise ValueError(f"memo index {argument} after {puts} entries")
                continue
            # The functions below refuse nested tuples, so a tuple that is their argument is flat.
            tuples += (name in _TUPLES) - (name in _CALLS and previous in _TUPLES)
            previous = name
            if count > MOST_INSTRUCTIONS or tuples > MOST_TUPLES:
                raise ValueError("more instructions or tuples than a split file needs")
    except Exception as error:  # `genops` raises several kinds of errors on damaged files
        problem = f"not a complete, plain pickle: {str(error)[:120]}"
        raise error_at(f"byte {position}", problem) from None


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> "_Constructor":
        if (module, name) not in _CONSTRUCTORS:
            allowed = [".".join(pair) for pair in _CONSTRUCTORS]
            problem = (
                f"the pickle names {module[:60]}.{name[:60]}, which could run code; nothing was "
                f"run. Allowed: {', '.join(allowed)}"
            )
            raise OodmlError(problem, given=f"{module}.{name}", allowed=allowed)
        return _CONSTRUCTORS[module, name]


class _Constructor:
    """A function that a pickle may call but not modify."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("a state for a function")


class _Dtype:
    """Stands in for a numpy dtype of numbers or text."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, align: Any = False, copy: Any = True) -> None:
        if type(code) is not str or not re.fullmatch(r"[fiubUS][0-9]{1,6}", code):
            raise ValueError(f"numpy dtype {str(code)[:20]!r} is neither number nor text")
        if type(align) not in (bool, int) or type(copy) not in (bool, int):
            raise ValueError("a numpy dtype with invalid arguments")
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        if type(state) is not tuple or len(state) < 3 or state[1] not in ("<", ">", "=", "|"):
            raise ValueError("a numpy dtype with an invalid state")
        if state[2] is not None or not all(item is None or type(item) is int for item in state[3:]):
            raise ValueError("a numpy dtype with fields")
        self.order = state[1]


def _scalar(dtype: Any, data: Any) -> Any:
    if type(dtype) is not _Dtype or type(data) not in (bytes, str):
        raise ValueError("a numpy scalar of an invalid type")
    raw = data if type(data) is bytes else data.encode("latin-1")
    if dtype.code[1:].strip("0") == "":
        return ""
    values = np.frombuffer(raw, dtype=np.dtype(dtype.order + dtype.code))
    if len(values) != 1:
        raise ValueError("a numpy scalar with too few or too many bytes")
    # numpy raises a SystemError when it converts these to str.
    if dtype.code[0] == "U" and np.frombuffer(raw, dtype.order + "u4").max() > sys.maxunicode:
        raise ValueError("text with characters that do not exist")
    return values[0].item()


def _encode(text: Any, encoding: Any) -> bytes:
    """Protocols 0 to 2 store bytes as a call of `_codecs.encode`."""
    if type(text) is not str or encoding not in ("latin1", "latin-1"):
        raise ValueError("text in an invalid encoding")
    return text.encode("latin-1")


_SCALAR = _Constructor(_scalar)
_CONSTRUCTORS = {
    ("numpy._core.multiarray", "scalar"): _SCALAR,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy", "dtype"): _Constructor(_Dtype),
    ("_codecs", "encode"): _Constructor(_encode),
}


def from_published(content: Any) -> tuple[Split, ...]:
    """Parse the content of a published file.

    A split's step is the entry "step" that `to_published` adds, or its number in the file, from 1.
    Episodes that list classes have no image ids; `episodes.fill_support` adds them.
    """
    reader = _Reader()
    splits = _expect(content, (dict,), "the file", "a dict")
    if list(splits) != list(range(1, len(splits) + 1)):
        raise OodmlError("the splits are not numbered 1, 2, 3 …")
    return tuple(reader.split(number, value) for number, value in splits.items())


def to_published(progression: Progression) -> dict[int, dict[str, Any]]:
    """The layout of the original code, in plain values, with an entry "step" that it ignores."""

    def plain(episode: Episode) -> dict[str, list[str]] | list[str]:
        support = {name: list(samples) for name, samples in episode.support.items()}
        return list(support) if episode.class_wise else support

    layout = {}
    for number, split in enumerate(progression, start=1):
        validation, sampled = set(split.validation), split.episodes.items()
        layout[number] = {
            "train": list(split.train),
            "test": list(split.test),
            "fid": float(split.shift),
            "step": split.step,
            "split_train": [name for name in split.train if name not in validation],
            "split_val": list(split.validation),
            "test_episodes": {
                shots: dict(enumerate(map(plain, drawn))) for shots, drawn in sampled
            },
        }
    return layout


class _Reader:
    """Converts the file's objects, and limits the number of names."""

    def __init__(self) -> None:
        self._count = 0

    def split(self, number: int, value: Any) -> Split:
        here = f"split {number}"
        values = _expect(value, (dict,), here, "a dict")
        missing = [key for key in _REQUIRED if key not in values]
        if missing or not values.keys() <= {*_KEYS}:
            extra = "".join(f", unknown {_short(key)}" for key in values if key not in _KEYS)[:200]
            raise error_at(here, f"keys: missing {missing}{extra}", allowed=_KEYS)
        train, test, others, validation = (
            self._names(values.get(key, []), f"{here}, {key}")
            for key in ("train", "test", "split_train", "split_val")
        )
        if others and {*others, *validation} != set(train):
            raise error_at(here, "split_train and split_val together differ from train")
        fid = _expect(values["fid"], (float, int), f"{here}, fid", "a number")
        step = _expect(values.get("step", number), (int, str), f"{here}, step", "a step")
        episodes, place = {}, f"{here}, test_episodes"
        sampled = _expect(values.get("test_episodes", {}), (dict,), place, "a dict")
        for shots, numbered in sampled.items():
            if type(shots) is not int or not 0 < shots < 1_000_000:
                raise error_at(place, f"{_short(shots)} is not a number of shots")
            at = f"{here}, {shots} shots"
            if list(_expect(numbered, (dict,), at, "a dict")) != list(range(len(numbered))):
                raise error_at(at, "the episodes are not numbered 0, 1, 2 …")
            drawn = (self._episode(one, f"{at}, episode {i}") for i, one in numbered.items())
            episodes[shots] = tuple(drawn)
        is_huge = type(fid) is int and abs(fid) > sys.float_info.max
        shift = float("inf") if is_huge else float(fid)
        return Split(step, train, test, shift, validation, episodes)

    def _episode(self, value: Any, location: str) -> Episode:
        if type(value) is list:
            return Episode(dict.fromkeys(self._names(value, location), ()), class_wise=True)
        rows = _expect(value, (dict,), location, "a dict")
        support = zip(self._names([*rows], location), rows.values(), strict=True)
        return Episode({name: self._names(samples, location) for name, samples in support})

    def _names(self, value: Any, location: str) -> tuple[str, ...]:
        self._count += len(_expect(value, (list, tuple), location, "a list of names"))
        if self._count > _MOST_NAMES:
            raise error_at(location, f"more than {_MOST_NAMES:,} names in the file")
        return tuple(str(_expect(name, (int, str), location, "a name")) for name in value)


def _expect(value: Any, kinds: tuple[type, ...], location: str, expected: str) -> Any:
    if type(value) not in kinds:
        raise error_at(location, f"a {type(value).__name__}; expected {expected}")
    return value


def _short(value: Any) -> str:
    """A short form that does not recurse into containers."""
    return f"{value!r:.60}" if type(value) in (str, int, float) else f"a {type(value).__name__}"
