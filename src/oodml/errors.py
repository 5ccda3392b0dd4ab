"""The exception that bad input raises, and helpers that build its message."""

import difflib
import importlib
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires
from typing import Any


class OodmlError(ValueError):
    """Bad input. The message states what is wrong, where, what was given, and what is allowed.

    Attributes:
        location: the file, table, or key where the error is, or "".
        given: the offending value, or None.
        allowed: the allowed values, where they can be listed.
    """

    def __init__(
        self, message: str, location: str = "", given: object = None, allowed: Iterable[str] = ()
    ) -> None:
        super().__init__(message)
        self.location, self.given = location, given
        self.allowed = tuple(allowed)


def error_at(
    location: object, message: str, given: object = None, allowed: Iterable[str] = ()
) -> OodmlError:
    """The error at a location, such as a file or key, with which its message starts."""
    where = str(location)
    return OodmlError(f"{where}: {message}", location=where, given=given, allowed=allowed)


def invalid(key: str, given: object, problem: str) -> OodmlError:
    """The error for the value of a setting, "key = given; problem"."""
    return OodmlError(f"{key} = {given}; {problem}", key, given)


def unknown(kind: str, given: object, allowed: Iterable[str], location: str = "") -> OodmlError:
    """The error for a name of a kind, such as "loss", that does not exist; suggests the closest."""
    options = sorted(allowed)
    closest, listed = suggest(given, options), options
    if closest and len(options) > 8:
        near = difflib.get_close_matches(str(given), options, 8, 0)
        listed = [*near, f"… ({len(options)} in all)"]
    problem = f"unknown {kind} {given!r}.{closest} Allowed: {', '.join(listed)}."
    prefix = f"{location}: " if location else ""
    return OodmlError(f"{prefix}{problem}", location, given, options)


def suggest(given: object, options: Iterable[str]) -> str:
    """A question with the option that is closest to what was given; "" if none is close."""
    close = difflib.get_close_matches(str(given), list(options), n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def require(extra: str, *modules: str) -> Any:
    """Import modules of an extra and return the first; if one is missing, an OodmlError has the
    command that installs the extra's packages, also for an installation from a clone."""
    try:
        first, *_ = map(importlib.import_module, modules)
        return first
    except ImportError as error:
        listed: list[str] = []
        with suppress(PackageNotFoundError):  # not installed, only on the path
            listed = requires("oodml") or []
        pairs = [entry.split(";") for entry in listed if ";" in entry]
        names = [f"'{name.strip()}'" for name, condition in pairs if f"'{extra}'" in condition]
        install = f"pip install {' '.join(names) or f'oodml[{extra}]'}"
        problem = f"{modules[0]} needs the extra {extra} ({error}). Run `{install}`."
        raise OodmlError(problem, modules[0], modules[0], [f"oodml[{extra}]"]) from error
