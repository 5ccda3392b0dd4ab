"""A copy of a study folder in a bucket or another folder, from which any machine continues."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from oodml.errors import error_at
from oodml.files import replacing
from oodml.study.folder.claims import in_background

SECONDS = 10.0
"""Seconds between two copies while a study runs."""
Versions = dict[str, tuple[int, int]]


@contextmanager
def mirrored(folder: Path, storage: str) -> Iterator[None]:
    """Fetch what a study folder lacks from its copy, and keep the copy up to date inside the block.

    The copy is in a folder, or at a URL such as "s3://bucket/study" that pyarrow opens.
    """
    from pyarrow import fs

    try:
        url = storage if "://" in storage else Path(storage).expanduser().resolve().as_uri()
        base, path = fs.FileSystem.from_uri(url)
        base.create_dir(path)
        remote = fs.SubTreeFileSystem(path, base)
        listed = remote.get_file_info(fs.FileSelector("", recursive=True))
    except (OSError, ValueError) as error:
        raise error_at("--storage", f"{storage}: {error}", storage) from error
    versions = _pull(folder, remote, {file.path for file in listed if file.is_file})

    def push_often(done: threading.Event) -> None:
        while not done.wait(SECONDS):
            _push(folder, remote, versions)

    try:
        with in_background("storage", push_often):
            yield
    finally:
        _push(folder, remote, versions)


def _pull(folder: Path, remote: Any, names: set[str]) -> Versions:
    """Fetch files that do not exist here; of a run only if it was copied completely."""
    versions: Versions = {}
    for name in sorted(names, key=_order):
        top, run = (*Path(name).parts, "")[:2]
        is_finished = f"runs/{run}/run.json" in names
        if (top == "runs" and not is_finished) or (top == "checkpoints" and is_finished):
            continue
        path = folder / name
        if not path.exists() and not path.name.startswith("."):
            with replacing(path) as temporary:
                temporary.write_bytes(remote.open_input_stream(name).read())
            versions[name] = _version(path)
    return versions


def _push(folder: Path, remote: Any, versions: Versions) -> None:
    """Copy new and changed files, and remove the copies of files that are gone."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    for name in sorted(paths, key=_order):
        if name.startswith(("claims/", "unfinished/")) or "/." in f"/{name}":
            continue
        with suppress(FileNotFoundError):  # a checkpoint that was just removed
            if paths[name].is_file() and versions.get(name) != _version(paths[name]):
                version, data = _version(paths[name]), paths[name].read_bytes()
                temporary = str(Path(name).with_name(f".{Path(name).name}"))
                remote.create_dir(str(Path(name).parent))
                with remote.open_output_stream(temporary) as stream:
                    stream.write(data)
                remote.move(temporary, name)
                versions[name] = version
    for name in versions.keys() - paths.keys():
        del versions[name]
        remote.delete_file(name)


def _version(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_mtime_ns, state.st_size


def _order(name: str) -> tuple[bool, str]:
    """`run.json` completes a run, so it comes last."""
    return name.endswith("run.json"), name
