"""Unpack an archive completely or not at all, and never outside the target folder."""

import shutil
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

from oodml.errors import OodmlError, error_at


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar or zip archive into `target`, without replacing entries that exist."""
    if not hasattr(tarfile, "data_filter"):
        raise OodmlError("unpacking safely requires Python 3.11.4 or later")
    with tempfile.TemporaryDirectory(dir=target, prefix=".unpacking-") as temporary:
        folder = Path(temporary)
        try:
            if zipfile.is_zipfile(archive):
                _unzip(archive, folder)
            elif tarfile.is_tarfile(archive):
                with tarfile.open(archive) as file:
                    file.extractall(folder, filter="data")
            else:
                raise error_at(archive, "not a tar or zip archive")
        except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
            raise error_at(archive, f"cannot unpack: {error}") from error
        for entry in sorted(folder.iterdir()):
            if not (target / entry.name).exists():
                shutil.move(entry, target / entry.name)


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            path = (folder / member.filename).resolve()
            if not path.is_relative_to(folder.resolve()) or "\\" in member.filename:
                raise _refuse_member(archive, member, "leads outside the folder")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _refuse_member(archive, member, "is a link")
        file.extractall(folder)


def _refuse_member(archive: Path, member: zipfile.ZipInfo, problem: str) -> OodmlError:
    message = f"{archive}: {member.filename!r} {problem}"
    return OodmlError(message, location=str(archive), given=member.filename)
