"""A promise: a function that raises `Broken` where it does not hold; its first line says it."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Make = Callable[..., Any]
"""Makes the thing anew, so that no promise sees what another left in it."""
Promise = Callable[[Make], None]


class Broken(Exception):
    """A promise that does not hold. found: what was seen. remedy: what to do."""

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(f"{found}. {remedy}")
        self.found, self.remedy = found, remedy


class Advice(Broken):
    """The same, where results are right all the same: it is told, but fails no check."""


class NotPromised(Exception):
    """A promise that has no meaning for this thing, with the reason."""


@dataclass(frozen=True)
class Finding:
    """How a promise stands. mark: ✓, ✗, ! (advice) or – (no meaning here)."""

    promise: str
    mark: str
    found: str = ""
    remedy: str = ""

    @property
    def fails(self) -> bool:
        return self.mark == "✗"


def kept(promise: Promise, make: Make) -> Finding:
    """Try a promise. Whatever the thing raises breaks it, too."""
    says = said(promise)
    try:
        promise(make)
    except NotPromised as reason:
        return Finding(says, "–", str(reason))
    except Broken as broken:
        mark = "!" if isinstance(broken, Advice) else "✗"
        return Finding(says, mark, broken.found, broken.remedy)
    except Exception as error:  # the user's code may raise anything
        return Finding(says, "✗", f"{type(error).__name__}: {error}", _where(error))
    return Finding(says, "✓")


def said(promise: Promise) -> str:
    """The promise in words."""
    return (inspect.getdoc(promise) or promise.__name__).splitlines()[0].rstrip(".")


def _where(error: BaseException) -> str:
    """The line of code that raised an error, the last that is not torch's."""
    trace, place = error.__traceback__, ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "/torch/" not in file and "<" not in file:
            place = f"It was raised at {file}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def explained(thing: Any, skip: tuple[str, ...] = ()) -> None:
    """Raise `Advice` if an option of `thing` is not a word of its docstring."""
    text = " ".join(filter(None, (inspect.getdoc(thing), inspect.getdoc(thing.__init__))))
    names = [name for name in inspect.signature(thing).parameters if name not in skip]
    missing = [name for name in names if name not in text]
    if missing:
        raise Advice(
            f"the docstring does not say what {', '.join(missing)} means",
            "Name each option there with a few words: that is its documentation",
        )


def near(a: float, b: float, relative: float, absolute: float = 1e-6) -> bool:
    """Whether two numbers are equal but for rounding."""
    return abs(a - b) <= absolute + relative * abs(b)
