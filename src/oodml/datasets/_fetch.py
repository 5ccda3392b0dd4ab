"""Download a published dataset: resumable, verified, and safely unpacked."""

import hashlib
import http.client
import shutil
import stat
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from oodml.catalog import load
from oodml.errors import OodmlError, error_at, unknown
from oodml.images.image_set import ImageSet

OnProgress = Callable[[int, int], Any]


class Archive(NamedTuple):
    """The address of a dataset's archive, and its checksum and size for verification."""

    url: str
    file: str
    sha256: str
    size: int


ARCHIVES = {
    # Address: pytorch-metric-learning 2.9.0, datasets/cub.py. Size and checksum of the archive:
    # tensorflow/datasets, url_checksums/caltech_birds2011.txt.
    "cub200": Archive(
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        "CUB_200_2011.tgz",
        "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
        1_150_585_339,
    ),
    # Address: pytorch-metric-learning 2.9.0, datasets/sop.py, from the authors' page.
    # Size and checksum: tensorflow/datasets, stanford_online_products/checksums.tsv.
    "online_products": Archive(
        "https://drive.usercontent.google.com/download"
        "?id=1TclrpQOF_ullUP99wk_gjGN8pKvtErG8&export=download&authuser=0&confirm=t",
        "Stanford_Online_Products.zip",
        "b04fa78210e69fab050ce73939550e1cd0f96890bdd98ec9fee732c3b756ef48",
        3_083_860_082,
    ),
}
MANUAL = {
    "cars196": (
        "the authors' server is offline, and no maintained library publishes a checksum. Kaggle "
        "has a copy, jutrera/stanford-car-dataset-by-classes-folder; put its folder car_data into "
        "ROOT"
    ),
    "inshop": (
        "the authors require an agreement: DeepFashion, In-shop Clothes Retrieval, at "
        "mmlab.ie.cuhk.edu.hk. Put img/ and list_eval_partition.txt into ROOT"
    ),
}
ATTEMPTS = 5
"""The number of consecutive attempts that may receive nothing."""
WAIT_SECONDS = 2.0
TIMEOUT_SECONDS = 30.0
BLOCK_BYTES = 1 << 20


def fetch(
    name: str, root: str | Path, progress: OnProgress = lambda received, total: None
) -> ImageSet:
    """Download a dataset to `root` unless it is there, and open it; `progress` gets the bytes
    received and in total."""
    if name in MANUAL:
        raise OodmlError(f"{name} cannot be downloaded: {MANUAL[name]}", given=name)
    if name not in ARCHIVES:
        raise unknown("dataset to fetch", name, (*ARCHIVES, *MANUAL))
    archive, root = ARCHIVES[name], Path(root).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    try:
        images: ImageSet = load("datasets", name, root=root)
    except OodmlError:
        file = root / archive.file
        if not file.exists():
            _download(archive, file, progress)
        unpack(file, root)
        images = load("datasets", name, root=root)
        file.unlink()
    return images


def _download(archive: Archive, target: Path, progress: OnProgress) -> None:
    """Download the archive to `target`, resuming from `target`.part."""
    part = target.with_name(f"{target.name}.part")
    stalled = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(archive, part, progress)
            break
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise error_at(archive.url, str(error)) from error
            stalled = 0 if part.exists() and part.stat().st_size > before else stalled + 1
            if stalled == ATTEMPTS:
                problem = f"{error}; repeat the command to resume from {part}"
                raise error_at(archive.url, problem) from error
            time.sleep(WAIT_SECONDS * stalled)
    with part.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != archive.sha256:
        part.unlink()
        problem = f"the SHA-256 is {digest} instead of {archive.sha256}; the file was removed"
        raise error_at(archive.url, problem, digest, [archive.sha256])
    part.replace(target)


def _receive(archive: Archive, part: Path, progress: OnProgress) -> None:
    """Append the missing bytes to `part`; raises OSError if the connection ends early."""
    received = part.stat().st_size if part.exists() else 0
    if received >= archive.size:
        return
    request = urllib.request.Request(archive.url, headers={"User-Agent": "oodml"})
    if received:
        request.add_header("Range", f"bytes={received}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        if response.headers.get_content_type() == "text/html":
            problem = "the server returned a web page instead of an archive"
            raise error_at(archive.url, problem, "text/html")
        if response.status != 206:
            received = 0
        length = response.headers.get("Content-Length")
        total = received + int(length) if length is not None else archive.size
        if total != archive.size:
            problem = f"the file has {total} bytes instead of {archive.size}"
            raise error_at(archive.url, problem, total, [str(archive.size)])
        with part.open("ab" if received else "wb") as stream:
            while block := response.read(BLOCK_BYTES):
                received += stream.write(block)
                progress(received, total)
    if received != total:
        raise OSError(f"the connection ended after {received} of {total} bytes")


def unpack(archive: Path, target: Path) -> None:
    """Unpack an archive into `target` completely or not at all; entries that exist remain."""
    if not hasattr(tarfile, "data_filter"):
        raise OodmlError("unpacking safely requires Python 3.11.4 or later")
    with tempfile.TemporaryDirectory(dir=target, prefix=".unpacking-") as temporary:
        folder = Path(temporary)
        try:
            if zipfile.is_zipfile(archive):
                with zipfile.ZipFile(archive) as zipped:
                    _refuse_outside(archive, zipped, folder.resolve())
                    zipped.extractall(folder)
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


def _refuse_outside(archive: Path, file: zipfile.ZipFile, folder: Path) -> None:
    for member in file.infolist():
        name = member.filename
        outside = "\\" in name or not (folder / name).resolve().is_relative_to(folder)
        if outside or stat.S_ISLNK(member.external_attr >> 16):
            problem = "leads outside the folder" if outside else "is a link"
            raise error_at(archive, f"{name!r} {problem}", name)
