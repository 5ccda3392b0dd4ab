"""Download a published data set: resumed where it stopped, verified, unpacked safely."""

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oodml.catalog import load
from oodml.datasets._unpack import unpack
from oodml.errors import OodmlError, unknown
from oodml.images.image_set import ImageSet

Report = Callable[[int, int], Any]
"""Called with the bytes that are there and the bytes of the whole."""


@dataclass(frozen=True)
class Source:
    """An archive of a data set: where it is, and how to know that it is the right one."""

    url: str
    file: str
    sha256: str
    size: int | None = None


SOURCES = {
    # Address: pytorch-metric-learning 2.9.0, datasets/cub.py. Size and checksum of the archive:
    # tensorflow/datasets, url_checksums/caltech_birds2011.txt.
    "cub200": Source(
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        "CUB_200_2011.tgz",
        "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
        1_150_585_339,
    ),
    # Address: pytorch-metric-learning 2.9.0, datasets/sop.py, which takes it from the authors'
    # page. Size and checksum: tensorflow/datasets, stanford_online_products/checksums.tsv.
    "online_products": Source(
        "https://drive.usercontent.google.com/download"
        "?id=1TclrpQOF_ullUP99wk_gjGN8pKvtErG8&export=download&authuser=0&confirm=t",
        "Stanford_Online_Products.zip",
        "b04fa78210e69fab050ce73939550e1cd0f96890bdd98ec9fee732c3b756ef48",
        3_083_860_082,
    ),
}
BY_HAND = {
    "cars196": (
        "the authors' address is gone (torchvision says the same), and no maintained library "
        "states a checksum of a copy. A copy that is read as it is: Kaggle, "
        "jutrera/stanford-car-dataset-by-classes-folder; put its folder car_data under ROOT. "
        "Or give --url and --sha256 of an archive you trust"
    ),
    "inshop": (
        "the authors ask for an agreement first: DeepFashion, In-shop Clothes Retrieval, at "
        "mmlab.ie.cuhk.edu.hk. Put img/ and list_eval_partition.txt under ROOT. "
        "Or give --url and --sha256 of an archive you hold"
    ),
}
ATTEMPTS = 5
WAIT = 2.0
TIMEOUT = 30.0
BLOCK = 1 << 20


def fetch(
    name: str,
    root: str | Path,
    url: str | None = None,
    sha256: str | None = None,
    report: Report = lambda done, whole: None,
) -> ImageSet:
    """Bring a data set to `root` and open it; what is there already is not fetched again.

    url, sha256: another archive than the one known; the checksum may stay away where the
    known archive lies at another address. Raises `OodmlError` if the address does not answer,
    the archive is another one, or a path in it leads outside.
    """
    source = _source(name, url, sha256)
    root = Path(root).expanduser()
    root.mkdir(parents=True, exist_ok=True)
    try:
        images: ImageSet = load("datasets", name, root=root)
    except OodmlError:
        archive = root / source.file
        if not archive.exists():
            _download(source, archive, report)
        unpack(archive, root)
        images = load("datasets", name, root=root)
        archive.unlink()
    return images


def _source(name: str, url: str | None, sha256: str | None) -> Source:
    known = SOURCES.get(name)
    if known is None and name not in BY_HAND:
        raise unknown("data set to fetch", name, (*SOURCES, *BY_HAND))
    if url is None and sha256 is not None:
        raise OodmlError("--sha256 is of an archive at another address; give --url too")
    if url is None:
        if known is None:
            raise OodmlError(f"{name} can't be fetched: {BY_HAND[name]}")
        return known
    if not url.startswith(("http://", "https://")):
        raise OodmlError(f"--url must start with http:// or https://; given {url!r}")
    if sha256 is None:
        if known is None:
            raise OodmlError(f"{name}: --url needs --sha256, since no checksum is known")
        return replace(known, url=url)
    digits = sha256.lower()
    if len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise OodmlError(f"--sha256 must be 64 hexadecimal digits; given {sha256!r}")
    return Source(url, f"{name}-{digits[:12]}.archive", digits)


def _download(source: Source, target: Path, report: Report) -> None:
    """Bring the archive to `target`; what a stopped download left in `target`.part is kept."""
    part = target.with_name(f"{target.name}.part")
    stalled = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _receive(source, part, report)
            break
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, urllib.error.HTTPError) and error.code < 500:
                raise OodmlError(f"{source.url}: {error}") from error
            advanced = part.exists() and part.stat().st_size > before
            stalled = 0 if advanced else stalled + 1
            if stalled == ATTEMPTS:
                raise OodmlError(
                    f"{source.url}: {error}; {part} is kept, the same command goes on from there"
                ) from error
            time.sleep(WAIT * stalled)
    with part.open("rb") as stream:
        given = hashlib.file_digest(stream, "sha256").hexdigest()
    if given != source.sha256:
        part.unlink()
        raise OodmlError(
            f"{source.url}: the file's SHA-256 is {given}, not {source.sha256}; it was removed"
        )
    part.replace(target)


def _receive(source: Source, part: Path, report: Report) -> None:
    """Append to `part` what it lacks; raises `OSError` if the connection ends early."""
    have = part.stat().st_size if part.exists() else 0
    if source.size is not None and have == source.size:
        return
    request = urllib.request.Request(source.url, headers={"User-Agent": "oodml"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing lies beyond what is there
            return
        raise
    with response:
        if response.headers.get_content_type() == "text/html":
            raise OodmlError(f"{source.url}: gives a web page, not an archive")
        if response.status != 206:
            have = 0
        length = response.headers.get("Content-Length")
        whole = have + int(length) if length is not None else source.size
        if source.size is not None and whole != source.size:
            raise OodmlError(
                f"{source.url}: gives a file of {whole} bytes; the archive has {source.size}"
            )
        with part.open("ab" if have else "wb") as stream:
            while block := response.read(BLOCK):
                have += stream.write(block)
                report(have, whole or 0)
    if whole is not None and have != whole:
        raise OSError(f"the connection ended after {have} of {whole} bytes")
