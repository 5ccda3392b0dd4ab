"""Zip files with one possible content: the same members give the same bytes.

Reading writes the archive again and compares, so a change of any byte is detected.
"""

import filecmp
import hashlib
import json
import re
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oodml.errors import OodmlError, error_at
from oodml.files import content_hash, replacing

MANIFEST = "manifest.json"
FORMAT = "oodml.pack"
SIZE_LIMIT, MEMBER_LIMIT = 8 * 2**30, 200_000
"""The largest size in bytes, and number of files, of a pack that is read."""
_ID = r"[A-Za-z0-9][\w.@=+ -]*"
_RUN = r"run\.json|history\.csv|superclasses\.parquet|confusions\.parquet|vectors\.npz"
_NAME = re.compile(
    rf"study\.toml|plan\.json|splits\.json|results\.parquet|features\.npz|images\.parquet|"
    rf"failed/{_ID}\.txt|runs/{_ID}/({_RUN})",
    re.ASCII,
)


def write_archive(folder: Path, out: Path, summary: Mapping[str, Any]) -> None:
    """Write the files of a folder and a manifest with their hashes to a zip file, atomically."""
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.*"))
    names = [name for name in names if (folder / name).is_file() and name != MANIFEST]
    for name in names:
        if not _NAME.fullmatch(name):
            raise OodmlError(f"{name!r} cannot be part of a pack", location=name)
    manifest = {"format": FORMAT, "version": 1, **summary}
    manifest["files"] = {name: _describe(folder / name) for name in names}
    manifest["hash"] = _hash(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    with replacing(out) as temporary:
        _write_zip(folder, [MANIFEST, *names], temporary)


def extract_archive(file: Path, folder: Path) -> dict[str, Any]:
    """Extract an archive to an empty folder, and return its manifest."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = _checked_names(file, archive)
            for name in names:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise error_at(file, f"not a readable pack: {reason}") from error
    manifest = _checked_manifest(file, folder, names)
    with tempfile.TemporaryDirectory() as temporary:
        again = Path(temporary) / "again.zip"
        _write_zip(folder, [MANIFEST, *sorted(manifest["files"])], again)
        if not filecmp.cmp(file, again, shallow=False):
            raise damaged(file, "the archive", "has other headers than those that oodml writes")
    return manifest


def _checked_manifest(file: Path, folder: Path, names: list[str]) -> dict[str, Any]:
    """The manifest of an extracted archive, if the files are those that it lists."""
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
        stated, listed = manifest.pop("hash"), dict(manifest["files"])
        if (manifest["format"], manifest["version"]) != (FORMAT, 1):
            raise ValueError(f"{manifest['format']!r:.40}, version {manifest['version']!r:.40}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"is not the manifest of a pack of version 1 ({error})"
        raise damaged(file, MANIFEST, problem) from error
    if stated != _hash(manifest):
        raise damaged(file, MANIFEST, "differs from its hash")
    for name in sorted({*names, *listed} - {MANIFEST}):
        if name not in listed or name not in names:
            raise damaged(file, name, "is not in both the archive and the manifest")
        if _describe(folder / name) != listed[name]:
            raise damaged(file, name, "differs from its hash")
    return {**manifest, "hash": stated}


def _checked_names(file: Path, archive: zipfile.ZipFile) -> list[str]:
    members = archive.infolist()
    names = [member.filename for member in members]
    size = sum(member.file_size for member in members)
    if size > SIZE_LIMIT or file.stat().st_size > SIZE_LIMIT or len(members) > MEMBER_LIMIT:
        limits = f"the limits are {SIZE_LIMIT:,} and {MEMBER_LIMIT:,}"
        raise error_at(file, f"{size:,} bytes in {len(members):,} files; {limits}", size)
    for member in members:
        if not _NAME.fullmatch(member.filename) and member.filename != MANIFEST:
            raise damaged(file, member.filename, "such a file is not part of a pack")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise damaged(file, member.filename, "is compressed")
    if len(set(names)) < len(names) or MANIFEST not in names:
        raise damaged(file, MANIFEST, "is missing, or a file appears twice")
    return names


def damaged(file: Path, name: str, problem: str) -> OodmlError:
    remedy = "The pack is damaged or was changed; get it again from its author."
    return OodmlError(f"{file}: {name!r:.120} {problem}. {remedy}", name, str(file))


def _write_zip(folder: Path, names: list[str], out: Path) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.create_system, member.external_attr = 3, 0o644 << 16
            archive.writestr(member, (folder / name).read_bytes())


def _describe(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


def _hash(manifest: Mapping[str, Any]) -> str:
    return content_hash(json.dumps(manifest, sort_keys=True))
