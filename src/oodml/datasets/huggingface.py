"""A labeled image dataset of Hugging Face `datasets` (extra `hf`): `open_images("hf:NAME")`."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from oodml.arrays import Names
from oodml.errors import OodmlError, error_at, install_command, unknown
from oodml.files import cache_folder, content_hash
from oodml.images.image_set import ImageSet

NO_SPLIT = "all"
"""The folder of the images of a dataset without splits."""


def dataset(
    name: str,
    split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    image: str = "image",
    label: str = "label",
    superclass: str | None = None,
) -> ImageSet:
    """Read a dataset from the hub, from a builder on disk, or from a folder of `save_to_disk`.

    The splits, if there are any, are the partition.

    The encoded images are written to the cache once, unchanged.

    Args:
        name: the name on the hub, or the path of a builder or of a folder of `save_to_disk`.
        split: the split to load, as in `datasets.load_dataset`; None for all.
        config: the configuration, as in `datasets.load_dataset`.
        revision: the revision, as in `datasets.load_dataset`.
        image: the column of the images.
        label: the column of the classes.
        superclass: the column of the superclasses, if any.

    Raises:
        OodmlError: if the dataset or a column does not exist, or a label is missing.
    """
    parts = _load(name, split, config, revision)
    wanted = [column for column in (image, label, superclass) if column is not None]
    for part, rows in parts.items():
        for column in wanted:
            if column not in rows.column_names:
                raise unknown("column", column, rows.column_names, f"hf:{name}, {part}")
    root = _export(name, parts, image)
    order = sorted(parts)
    ids = [f"{part}/{file.name}" for part in order for file in sorted((root / part).iterdir())]
    return ImageSet(
        name.rstrip("/").rpartition("/")[2],
        np.array(ids),
        np.concatenate([_texts(name, parts[part], label) for part in order]),
        None
        if superclass is None
        else np.concatenate([_texts(name, parts[part], superclass) for part in order]),
        root=root,
        partition=None
        if order == [NO_SPLIT]
        else np.repeat(order, [len(parts[part]) for part in order]),
    )


def _load(
    name: str, split: str | None, config: str | None, revision: str | None
) -> Mapping[str, Any]:
    try:
        import datasets
    except ImportError as error:
        message = f"hf: datasets require more packages: {install_command('hf')}"
        raise OodmlError(message, given=name, allowed=["oodml[hf]"]) from error
    try:
        if is_saved_dataset(Path(name)):
            parts = datasets.load_from_disk(name)
            if split is not None and isinstance(parts, Mapping) and split not in parts:
                raise unknown("split", split, parts, f"hf:{name}")
            parts = parts[split] if split is not None and isinstance(parts, Mapping) else parts
        else:
            parts = datasets.load_dataset(name, config, split=split, revision=revision)
    except OodmlError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise error_at(f"hf:{name}", f"{error}") from error
    return parts if isinstance(parts, Mapping) else {str(parts.split or NO_SPLIT): parts}


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by `save_to_disk` of Hugging Face `datasets`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def _export(name: str, parts: Mapping[str, Any], image: str) -> Path:
    """Write the images as files `part/number`, atomically, and return their folder."""
    import datasets

    fingerprints = [f"{part} {rows._fingerprint}" for part, rows in sorted(parts.items())]
    target = cache_folder() / "huggingface" / content_hash(name, image, *fingerprints)[:24]
    if target.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise error_at(
            target.parent,
            f"could not write the images of hf:{name} ({error}). Set OODML_CACHE "
            "to a folder with write access",
        ) from error
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as temporary:
        written = Path(temporary) / "images"
        for part, rows in parts.items():
            if not isinstance(rows.features[image], datasets.Image):
                message = f"hf:{name}: column {image!r} does not contain images"
                raise OodmlError(message, location=f"hf:{name}", given=image)
            (written / part).mkdir(parents=True)
            raw = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
            for number, row in enumerate(raw):
                _write(row[image], written / part / f"{number:08}", f"hf:{name}, {part} {number}")
        written.rename(target)
    return target


def _write(cell: Mapping[str, Any] | None, stem: Path, location: str) -> None:
    if cell is None:
        raise error_at(location, "the image is missing")
    data, path = cell["bytes"], cell["path"]
    suffix = Path(path or "").suffix.lower() or ".image"
    stem.with_suffix(suffix).write_bytes(Path(path).read_bytes() if data is None else data)


def _texts(name: str, rows: Any, column: str) -> Names:
    """A column as text: the names of class labels, or the values."""
    values = rows[column][:]
    feature = rows.features[column]
    missing = [row for row, value in enumerate(values) if value is None or value == ""]
    if hasattr(feature, "int2str"):
        missing += [row for row, value in enumerate(values) if value == -1]  # unlabeled
    if missing:
        raise OodmlError(
            f"hf:{name}: column {column!r} is empty in row {missing[0]} (counted from 0); "
            f"{len(missing)} of {len(values)} rows are empty",
            location=f"{column}, row {missing[0]}",
        )
    texts = feature.int2str(values) if hasattr(feature, "int2str") else map(str, values)
    return np.array(list(texts), dtype=np.str_)
