"""A copy of a study folder in a bucket or another folder, from which any machine continues."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from oodml.errors import error_at
from oodml.files import replacing

SECONDS = 10.0
"""Seconds between two copies while a study runs."""
_OWN = ("claims", "unfinished")
"""Folders of this machine, which are not copied."""


@contextmanager
def mirrored(folder: Path, storage: str) -> Iterator[None]:
    """Fetch what a study folder lacks from its copy, and keep the copy up to date inside the block.

    Args:
        storage: a folder, or a URL such as "s3://bucket/study" that pyarrow opens.
    """
    mirror = _Mirror(folder, storage)
    mirror.pull()
    done = threading.Event()

    def push() -> None:
        while not done.wait(SECONDS):
            mirror.push()

    thread = threading.Thread(target=push, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        mirror.push()


class _Mirror:
    def __init__(self, folder: Path, storage: str) -> None:
        from pyarrow import fs

        self.folder, self.sent = folder, dict[str, tuple[int, int]]()
        try:
            if "://" in storage:
                base, path = fs.FileSystem.from_uri(storage)
            else:
                base, path = fs.LocalFileSystem(), str(Path(storage).expanduser().resolve())
            base.create_dir(path)
            self.remote: Any = fs.SubTreeFileSystem(path, base)
            everything = fs.FileSelector("", recursive=True)
            listed = [one.path for one in self.remote.get_file_info(everything) if one.is_file]
        except (OSError, ValueError) as error:
            raise error_at("--storage", f"{storage}: {error}", storage) from error
        self.listed = {name for name in listed if not Path(name).name.startswith(".")}

    def pull(self) -> None:
        """Fetch files that do not exist here; of a run only if it was copied completely."""
        for name in sorted(self.listed, key=_order):
            top, run = (*Path(name).parts, "")[:2]
            is_partial = top == "runs" and f"runs/{run}/run.json" not in self.listed
            is_obsolete = top == "checkpoints" and f"runs/{run}/run.json" in self.listed
            if is_partial or is_obsolete or (self.folder / name).exists():
                continue
            data = self.remote.open_input_stream(name).read()
            with replacing(self.folder / name) as temporary:
                temporary.write_bytes(data)
            self.sent[name] = _version(self.folder / name)

    def push(self) -> None:
        """Copy new and changed files; remove the copies of files that are gone."""
        present = set()
        for path in sorted(self.folder.rglob("*"), key=lambda path: _order(str(path))):
            name = path.relative_to(self.folder).as_posix()
            if name.split("/")[0] in _OWN or "/." in f"/{name}":
                continue
            with suppress(FileNotFoundError):  # a checkpoint that was just removed
                if not path.is_file():
                    continue
                version = _version(path)
                present.add(name)
                if self.sent.get(name) != version:
                    self._send(name, path.read_bytes())
                    self.sent[name] = version
        for name in self.sent.keys() - present:
            del self.sent[name]
            self.remote.delete_file(name)

    def _send(self, name: str, data: bytes) -> None:
        temporary = str(Path(name).with_name(f".{Path(name).name}"))
        self.remote.create_dir(str(Path(name).parent))
        with self.remote.open_output_stream(temporary) as stream:
            stream.write(data)
        self.remote.move(temporary, name)


def _version(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size


def _order(name: str) -> tuple[bool, str]:
    """`run.json` completes a run, so it comes last."""
    return name.endswith("run.json"), name
