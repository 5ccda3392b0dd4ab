"""Removing what identifies a machine or its user: absolute paths and host names."""

import re
from collections.abc import Mapping
from typing import Any

_QUOTED = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'")
_PATH = re.compile(r"(?<![\w.:/\\~-])(?:~\w*|[A-Za-z]:)?[/\\][^\s\"'<>|;,()\[\]{}]*")
_ABSOLUTE = re.compile(r"(?:~\w*[/\\]|[A-Za-z]:[/\\]|/|\\\\|file:)")
_OPTIONS = ("# --data ", "# --splits ")
"""Comments of `oodml study run`, which state paths of its command line."""


def without_paths(value: Any) -> Any:
    """JSON values with the last part of each absolute path, and nothing under the key "host"."""
    if isinstance(value, str):
        return _shorten(value) if _ABSOLUTE.match(value) else _PATH.sub(_last_part, value)
    if isinstance(value, Mapping):
        return {k: "" if k == "host" else without_paths(entry) for k, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(entry) for entry in value]
    return value


def toml_without_paths(text: str) -> str:
    """The text of a study file in which absolute paths are replaced by their last part."""
    lines = [line for line in text.splitlines() if not line.startswith(_OPTIONS)]
    shortened = _QUOTED.sub(_shorten_quoted, "\n".join(lines))
    return _PATH.sub(_last_part, shortened) + "\n"


def _shorten_quoted(match: re.Match[str]) -> str:
    quote, text = match[0][0], match[0][1:-1]
    return f"{quote}{_shorten(text) if _ABSOLUTE.match(text) else text}{quote}"


def _last_part(match: re.Match[str]) -> str:
    return _shorten(match[0])


def _shorten(path: str) -> str:
    """The last part of a path; a bare separator stays."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or path[:1]
