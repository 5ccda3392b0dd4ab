"""What the user sees when a command fails: one message, never a traceback."""

import codecs
import errno
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TextIO

import typer

from oodml.errors import OodmlError

BAD_INPUT, UNEXPECTED = 2, 1
"""Exit statuses."""
DEBUG = "OODML_DEBUG"
"""If this environment variable is set, errors are raised with their traceback."""
PLAIN_ASCII = "oodmlascii"
_READABLE = {
    "−": "-", "–": "-", "—": "-", "×": "x", "±": "+/-", "…": "...", "→": "->", "≤": "<=", "≥": ">=",
    "≈": "~", "·": "*", "•": "*", "✓": "ok", "✗": "x", "’": "'", "‘": "'", "“": '"', "”": '"',
    "β": "beta", "\u00a0": " ", "\u2009": " ", "\u202f": " ",
}  # fmt: skip
_FULL = ("No space left on device", "Disk quota exceeded")
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")
_PLAIN_ERRORS = {
    *("EACCES", "EPERM", "EROFS", "ENOENT", "EISDIR", "ENOTDIR", "EEXIST", "ENAMETOOLONG"),
    *("EMFILE", "ENOSPC", "EDQUOT"),
}


def tolerate_any_text(streams: tuple[TextIO, ...] = (sys.stdout, sys.stderr)) -> None:
    """Let a stream print text that its encoding lacks: signs in ASCII, other characters as "?".

    An ASCII stream gets a codec of another name, because click would write UTF-8 to it.
    """
    codecs.register_error("oodml_readable", _replace_readably)
    codecs.register(lambda name: _ascii_codec() if name == PLAIN_ASCII else None)
    for stream in streams:
        if hasattr(stream, "reconfigure"):
            ascii_only = codecs.lookup(stream.encoding or "ascii").name == "ascii"
            encoding = PLAIN_ASCII if ascii_only else stream.encoding
            stream.reconfigure(encoding=encoding, errors="oodml_readable")


def _replace_readably(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_READABLE.get(character, "?") for character in missing), error.end


def _ascii_codec() -> codecs.CodecInfo:
    info = codecs.lookup("ascii")
    steps = {name: getattr(info, name) for name in ("incrementalencoder", "incrementaldecoder")}
    return codecs.CodecInfo(info.encode, info.decode, name=PLAIN_ASCII, **steps)


def report_error(error: Exception) -> int:
    """Print what went wrong, and return the exit status.

    Bad input and errors of the file system are a sentence with status 2. For others, the message
    names a log file with the traceback. With `OODML_DEBUG`, the error is raised.
    """
    if os.environ.get(DEBUG):
        raise error
    message = _expected_message(error)
    if message is not None:
        typer.secho(f"oodml: {message}", fg="red", err=True)
        return BAD_INPUT
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    typer.secho(f"oodml: unexpected error ({reason}). {_log_traceback(error)}", fg="red", err=True)
    return UNEXPECTED


def _expected_message(error: Exception) -> str | None:
    """The message of an error that is not a fault of the program, else None."""
    if isinstance(error, OodmlError):
        return str(error)
    text = str(error)
    if any(reason in text for reason in _FULL):
        return (
            f"the disk is full ({text}). Free some space, for example with `oodml data cache "
            "--clear`; set OODML_CACHE to move the cache."
        )
    if isinstance(error, MemoryError) or any(reason in text.lower() for reason in _NO_MEMORY):
        reason = f" ({text.splitlines()[0]})" if text else ""
        remedy = "Lower the batch size, the image size, or the number of workers."
        return f"not enough memory{reason}. {remedy}"
    if isinstance(error, OSError) and errno.errorcode.get(error.errno or 0) in _PLAIN_ERRORS:
        file = f"{error.filename}: " if error.filename is not None else ""
        return f"{file}{error.strerror}. Check that the path exists and that you may use it."
    return None


def _log_traceback(error: Exception) -> str:
    """Write the traceback to a file and return its path, or the traceback if that fails."""
    text = "".join(traceback.format_exception(error))
    try:
        handle, name = tempfile.mkstemp(prefix="oodml-error-", suffix=".log")
        os.close(handle)
        Path(name).write_text(f"{sys.argv}\n{text}", encoding="utf-8", errors="replace")
    except OSError:
        return f"The traceback:\n{text}"
    return f"The traceback is in {name}. Please report it, or set {DEBUG}=1 to print it."
