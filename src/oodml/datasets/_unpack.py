"""Unpack an archive so that nothing lands outside the folder, and all of it or nothing."""

import shutil
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

from oodml.errors import OodmlError


def unpack(archive: Path, target: Path) -> None:
    """Unpack a tar or zip archive into `target`; entries there of the same name are kept.

    Raises `OodmlError` for a path that leads outside, a link in a zip, or a broken archive.
    """
    if not hasattr(tarfile, "data_filter"):
        raise OodmlError("unpacking safely needs Python 3.11.4 or newer")
    with tempfile.TemporaryDirectory(dir=target, prefix=".unpacking-") as place:
        folder = Path(place)
        try:
            if zipfile.is_zipfile(archive):
                _unzip(archive, folder)
            elif tarfile.is_tarfile(archive):
                with tarfile.open(archive) as file:
                    file.extractall(folder, filter="data")
            else:
                raise OodmlError(f"{archive}: neither a tar nor a zip archive")
        except (tarfile.TarError, zipfile.BadZipFile, OSError, EOFError) as error:
            raise OodmlError(f"{archive}: can't be unpacked: {error}") from error
        for entry in sorted(folder.iterdir()):
            if not (target / entry.name).exists():
                shutil.move(entry, target / entry.name)


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            where = (folder / member.filename).resolve()
            if not where.is_relative_to(folder.resolve()) or "\\" in member.filename:
                raise OodmlError(f"{archive}: {member.filename!r} leads outside the folder")
            if stat.S_ISLNK(member.external_attr >> 16):
                raise OodmlError(f"{archive}: {member.filename!r} is a link")
        file.extractall(folder)
