"""A labelled image data set of Hugging Face `datasets` (extra `hf`): `open_images("hf:NAME")`."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from oodml.arrays import Names
from oodml.errors import OodmlError, unknown
from oodml.files import cache_folder, content_hash
from oodml.images.image_set import ImageSet


def dataset(
    name: str,
    split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    image: str = "image",
    label: str = "label",
    superclass: str | None = None,
) -> ImageSet:
    """The images of a data set on the hub or of a builder on disk, its splits as partition.

    name: on the hub, or the path of a builder.
    split, config, revision: as `datasets.load_dataset` takes them; all splits by default.
    image, label, superclass: the columns. The files are written once, as they are, to the
    cache. Raises `OodmlError` if the data set or a column is not there, or a label is missing.
    """
    parts = _load(name, split, config, revision)
    wanted = [column for column in (image, label, superclass) if column is not None]
    for part, rows in parts.items():
        for column in wanted:
            if column not in rows.column_names:
                raise unknown("column", column, rows.column_names, f"hf:{name}, {part}")
    root = _exported(name, parts, image)
    order = sorted(parts)
    ids = [f"{part}/{file.name}" for part in order for file in sorted((root / part).iterdir())]
    return ImageSet(
        name.rpartition("/")[2],
        np.array(ids),
        np.concatenate([_texts(name, parts[part], label) for part in order]),
        None
        if superclass is None
        else np.concatenate([_texts(name, parts[part], superclass) for part in order]),
        root=root,
        partition=np.repeat(order, [len(parts[part]) for part in order]),
    )


def _load(
    name: str, split: str | None, config: str | None, revision: str | None
) -> Mapping[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise OodmlError("hf: data sets need the extra: pip install 'oodml[hf]'") from error
    try:
        found = datasets.load_dataset(name, config, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise OodmlError(f"hf:{name}: {error}") from error
    return found if isinstance(found, Mapping) else {str(found.split): found}


def _exported(name: str, parts: Mapping[str, Any], image: str) -> Path:
    """The folder that holds the images as files `part/number`; written whole or not at all."""
    import datasets

    prints = [f"{part} {rows._fingerprint}" for part, rows in sorted(parts.items())]
    target = cache_folder() / "huggingface" / content_hash(name, image, *prints)[:24]
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as place:
        written = Path(place) / "images"
        for part, rows in parts.items():
            if not isinstance(rows.features[image], datasets.Image):
                raise OodmlError(f"hf:{name}: column {image!r} holds no images")
            (written / part).mkdir(parents=True)
            raw = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
            for number, row in enumerate(raw):
                _write(row[image], written / part / f"{number:08}", f"hf:{name}, {part} {number}")
        written.rename(target)
    return target


def _write(cell: Mapping[str, Any] | None, stem: Path, where: str) -> None:
    if cell is None:
        raise OodmlError(f"{where}: there is no image")
    data, path = cell["bytes"], cell["path"]
    suffix = Path(path or "").suffix.lower() or ".image"
    stem.with_suffix(suffix).write_bytes(Path(path).read_bytes() if data is None else data)


def _texts(name: str, rows: Any, column: str) -> Names:
    """A column as names: those of the class labels, or the values as text."""
    values = rows[column][:]
    feature = rows.features[column]
    missing = [row for row, value in enumerate(values) if value is None or value == ""]
    if hasattr(feature, "int2str"):
        missing += [row for row, value in enumerate(values) if value == -1]  # the hub's "unknown"
    if missing:
        raise OodmlError(
            f"hf:{name}: column {column!r} is empty in row {missing[0]} (the first is 0); "
            f"{len(missing)} of {len(values)} rows are so"
        )
    texts = feature.int2str(values) if hasattr(feature, "int2str") else map(str, values)
    return np.array(list(texts), dtype=np.str_)
