"""Atomic file writing, content hashes, and the cache folder."""

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from oodml.errors import error_at, suggest


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a path with the same suffix that replaces `path` on success and is deleted on error."""
    target = Path(path)
    folder, prefix = target.parent, f".{target.stem}."
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=target.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.umask(mask := os.umask(0))
        temporary.chmod(0o666 & ~mask)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def creating_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` on success and is deleted on error."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as temporary:
        folder = Path(temporary) / target.name
        folder.mkdir()
        yield folder
        folder.replace(target)


def refuse_overwrite(output: str | Path, *inputs: str | Path | None) -> None:
    """Refuse an output file that is one of the inputs; links and other spellings count, too."""
    target = Path(output)
    for source in (Path(one) for one in inputs if one is not None):
        with suppress(OSError):
            same = target.exists() and source.exists() and target.samefile(source)
            if same or target.resolve() == source.resolve():
                problem = f"would overwrite the input {source}; choose another output file"
                raise error_at(target, problem, str(source))


def missing_study(text: str) -> str:
    """A hint for RESULTS:METHOD without a folder RESULTS; "" for other text."""
    folder, colon, method = text.partition(":")
    if not colon or Path(folder).exists():
        return ""
    studies = Path(folder).parent.glob("*/plan.json")
    near = suggest(text, [f"{plan.parent}:{method}" for plan in studies])
    return f" There is no study folder {folder!r}.{near}"


def cache_folder() -> Path:
    """The folder of cached features and images: $OODML_CACHE, or ~/.cache/oodml."""
    if configured := os.environ.get("OODML_CACHE"):
        return Path(configured)
    try:
        return Path.home() / ".cache" / "oodml"
    except RuntimeError:  # the user has no home folder, as in some containers
        user = os.getuid() if hasattr(os, "getuid") else "user"
        return Path(tempfile.gettempdir()) / f"oodml-cache-{user}"


_unwritable: set[Path] = set()


def log_cache_failure(error: Exception) -> None:
    """Warn once that the cache cannot be written."""
    folder = cache_folder()
    if folder not in _unwritable:
        _unwritable.add(folder)
        problem = f"{folder}: could not write the cache ({error}). Continuing without it; set"
        advice = "OODML_CACHE to a folder with write access and free space."
        logging.getLogger("oodml").warning("%s %s", problem, advice)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def content_hash(*parts: bytes | str) -> str:
    """SHA-256 of the parts, each preceded by its length, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
