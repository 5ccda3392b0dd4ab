"""The images of a large collection in parts: files, WebDataset tars, Parquet with images, URLs."""

import glob
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from oodml.datasets import TABLE_SUFFIXES, open_images
from oodml.errors import OodmlError, error_at
from oodml.evaluate.query_lists import listed_parts
from oodml.files import content_hash
from oodml.images.decode import SUFFIXES, decode
from oodml.images.image_set import ImageSet, InputImage, VectorImages, pixels_error
from oodml.images.pixel_cache import shrink
from oodml.vector_columns import ATTRIBUTES, CLASSES, IDS, SUPERCLASSES, attribute_texts

CHUNK = 2048
"""Images of a file that are in memory at a time."""
UNLABELED = "unlabeled"
IMAGE_COLUMNS = ("image", "img", "jpg", "png", "webp", "bytes")
_BLANK = Image.new("RGB", (256, 256), "white")


@dataclass(frozen=True)
class Job:
    """The images of one shard: a part of an image set, or rows of a Parquet file, or a tar."""

    number: int
    images: ImageSet | None = None
    file: Path | None = None
    rows: tuple[int, int] = (0, 0)
    background: str = "white"

    def parts(self) -> Iterator[ImageSet]:
        """The images, some at a time."""
        if self.file is None:
            yield from [self.images] if self.images is not None else ()
            return
        tar = self.file.suffix == ".tar"
        for part in _read_tar(self.file) if tar else _read_parquet(self.file, *self.rows):
            yield replace(part, background=self.background)


@dataclass(frozen=True)
class Collection:
    """A collection in shards: what tells it from others, as JSON values, and its jobs by number."""

    identity: Mapping[str, Any]
    n_jobs: int
    jobs: Callable[[list[int]], Iterator[Job]]


def open_source(
    data: str, shard_size: int, background: str | None = None, **options: Any
) -> Collection:
    """Open a collection for embedding in shards of so many images; a tar is always one shard.

    It consists of WebDataset tars or Parquet files with encoded images (a file, a folder of them,
    or a pattern with *), or it is a table whose paths may be URLs, or as in `open_images`.
    """
    if files := _bulk_files(data):
        for option in options:
            raise error_at(data, f"option {option!r} applies to folders and tables", option)
        return _open_files(files, shard_size, background or "white")
    if data.lower().endswith(TABLE_SUFFIXES) and Path(data).is_file():
        options |= {"check_files": False}
    images = open_images(data, background=background, **options)
    if isinstance(images, VectorImages):
        raise pixels_error(images.name)
    if type(images) is ImageSet and any("://" in name for name in images.ids[:1]):
        images = RemoteImages(**images.values())
    parts = listed_parts(images)
    images = images if parts is None else replace(images, partition=parts)
    starts = range(0, len(images), shard_size)

    def jobs(numbers: list[int]) -> Iterator[Job]:
        for number in numbers:
            rows = np.arange(starts[number], min(starts[number] + shard_size, len(images)))
            yield Job(number, images.select(rows))

    identity = {"name": images.name, "images": len(images), "ids": content_hash(*images.ids)[:16]}
    return Collection(identity | {"shard_size": shard_size}, len(starts), jobs)


def _open_files(files: list[Path], shard_size: int, background: str) -> Collection:
    jobs: list[Job] = []
    for file in files:
        n = 0 if file.suffix == ".tar" else _open_parquet(file).metadata.num_rows
        for start in range(0, n, shard_size) if n else [0]:
            rows = start, min(start + shard_size, n)
            jobs.append(Job(len(jobs), None, file, rows, background))
    sizes = {file.name: file.stat().st_size for file in files}
    identity = {"files": sizes, "shard_size": shard_size}
    return Collection(identity, len(jobs), lambda numbers: map(jobs.__getitem__, numbers))


def _bulk_files(data: str) -> list[Path]:
    """The tars, or the Parquet files with images, that `data` names."""
    path = Path(data).expanduser()
    if "*" in data:
        paths = sorted(map(Path, glob.glob(str(path))))
        if not paths:
            raise error_at(data, "no file has such a name")
    else:
        paths = sorted(path.glob("*.*")) if path.is_dir() else [path]
    tars = [path for path in paths if path.suffix == ".tar"]
    return tars or [path for path in paths if path.suffix == ".parquet" and _image_column(path)]


@dataclass(frozen=True, repr=False)
class RemoteImages(ImageSet):
    """Images at URLs, read through fsspec; other ids are paths."""

    def read(self, index: int, at_least: int | None = None) -> Image.Image:
        import fsspec  # type: ignore[import-untyped,unused-ignore]

        name = str(self.ids[index])
        if "://" not in name:
            return super().read(index, at_least)
        try:
            with fsspec.open(name, "rb") as file:
                data = file.read()
        except Exception as error:  # every file system raises its own exceptions
            raise error_at(name, f"cannot be read: {error}") from error
        return decode(data, at_least, self.background, name)


@dataclass(frozen=True, repr=False)
class TolerantImages(ImageSet):
    """Images of which unreadable ones are white and listed in `problems` by row; larger ones are
    resized to a short side, if it is given."""

    inner: ImageSet | None = None
    short: int | None = None
    problems: dict[int, str] = field(default_factory=dict)

    def read(self, index: int, at_least: int | None = None) -> Image.Image:
        assert self.inner is not None
        try:
            return self.inner.read(index, at_least)
        except (OodmlError, OSError) as error:
            self.problems[index] = str(error)
            return _BLANK

    def input_image(self, index: int) -> InputImage:
        if self.short is None:
            return self.read(index)
        return shrink(self.read(index, 2 * self.short), self.short)


def _encoded(name: str, columns: Mapping[str, list[Any]], data: list[Any]) -> ImageSet:
    pixels = np.empty(len(data), dtype=object)
    pixels[:] = data
    texts = {key: attribute_texts(values) for key, values in columns.items()}
    classes = np.where(texts["class"] == "", UNLABELED, texts["class"])
    used = {key: texts[key] for key in ATTRIBUTES if key in texts}
    rows = texts["id"], classes, texts.get("superclass")
    return ImageSet(name, *rows, pixels=pixels, attributes=used)


def _read_tar(path: Path) -> Iterator[ImageSet]:
    """Samples of a WebDataset: files with the same name up to the first dot, with a class in .cls
    or as "class" or "label" in .json."""
    samples: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(path) as tar:
            for member in filter(tarfile.TarInfo.isfile, tar):
                name = PurePosixPath(member.name)
                stem, _, kind = name.name.partition(".")
                if not stem:  # a hidden file
                    continue
                key = str(name.with_name(stem))
                if key not in samples and len(samples) >= CHUNK:
                    yield _tar_images(path, samples)
                    samples = {}
                content = (tar.extractfile(member) or io.BytesIO()).read()
                samples.setdefault(key, {})[f".{kind.lower()}"] = content
    except (tarfile.TarError, OSError) as error:
        raise error_at(path, f"cannot be read: {error}") from error
    yield _tar_images(path, samples)


def _tar_images(path: Path, samples: Mapping[str, Mapping[str, bytes]]) -> ImageSet:
    ids, classes, data = [], [], []
    for key, sample in samples.items():
        if kinds := [kind for kind in sample if kind in SUFFIXES]:
            ids.append(f"{path.stem}/{key}")
            data.append(sample[kinds[0]])
            try:
                more = json.loads(sample.get(".json", b"{}"))
            except ValueError:
                more = {}
            named = [more[key] for key in CLASSES if key in more] if isinstance(more, dict) else []
            label = sample[".cls"].decode("utf-8", "replace").strip() if ".cls" in sample else None
            classes.append(str(named[0]) if named and label is None else label)
    return _encoded(path.stem, {"id": ids, "class": classes}, data)


def _open_parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        return pa.parquet.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise error_at(path, f"cannot be read: {error}") from error


def _image_column(path: Path) -> str | None:
    """The column of encoded images: bytes, or "bytes" in a struct as Hugging Face stores them."""
    import pyarrow as pa

    if not path.is_file():
        return None

    def has_bytes(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            return any(child.name == "bytes" and has_bytes(child.type) for child in kind)
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    with _open_parquet(path) as file:
        names = [one.name for one in file.schema_arrow if has_bytes(one.type)]
    preferred = [name for name in names if name.casefold() in IMAGE_COLUMNS]
    return next(iter([*preferred, *names]), None)


def _read_parquet(path: Path, begin: int, end: int) -> Iterator[ImageSet]:
    """Rows of a Parquet file; ids are "FILE/ROW" unless a column names them."""
    image, row = _image_column(path), 0
    wanted = {"id": IDS, "class": CLASSES, "superclass": SUPERCLASSES}
    wanted |= {name: (name,) for name in ATTRIBUTES}
    with _open_parquet(path) as file:
        names = [(name, name.casefold()) for name in file.schema_arrow.names]
        present = {k: name for k, own in wanted.items() for name, lower in names if lower in own}
        for batch in file.iter_batches(CHUNK, columns=[image, *present.values()]):
            low, high = max(begin - row, 0), min(end - row, len(batch))
            start, row = row + low, row + len(batch)
            if high <= 0:
                return
            if low >= high:
                continue
            table = batch.slice(low, high - low).to_pydict()
            cells = (one.get("bytes") if isinstance(one, dict) else one for one in table[image])
            data = [cell or b"" for cell in cells]
            columns = {key: table[name] for key, name in present.items()}
            columns.setdefault("class", [None] * len(data))
            columns.setdefault("id", [f"{path.stem}/{start + i}" for i in range(len(data))])
            yield _encoded(path.stem, columns, data)
