"""A labeled image dataset of Hugging Face `datasets` (extra `hf`): `open_images("hf:NAME")`."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from oodml.arrays import Names
from oodml.errors import OodmlError, error_at, require, unknown
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

    The splits, if there are any, are the partition. The encoded images are written to the cache
    once, unchanged.

    Args:
        name: the name on the hub, or the path of a builder or of a folder of `save_to_disk`.
        split, config, revision: what to load, as in `datasets.load_dataset`; by default all splits.
        image, label, superclass: the columns of the images, classes, and superclasses, if any.

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
    classes, *superclasses = (
        np.concatenate([_texts(name, parts[part], column) for part in order])
        for column in wanted[1:]
    )
    splits = np.repeat(order, [len(parts[part]) for part in order])
    partition = None if order == [NO_SPLIT] else splits
    title = name.rstrip("/").rpartition("/")[2]
    groups = superclasses[0] if superclasses else None
    return ImageSet(title, np.array(ids), classes, groups, root=root, partition=partition)


def _load(name: str, split: str | None, config: str | None, revision: str | None) -> dict[str, Any]:
    datasets, saved = require("hf", "datasets"), is_saved_dataset(Path(name))
    try:
        if saved:
            parts = datasets.load_from_disk(name)
        else:
            parts = datasets.load_dataset(name, config, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise error_at(f"hf:{name}", f"{error}") from error
    if saved and split is not None and isinstance(parts, Mapping):
        if split not in parts:
            raise unknown("split", split, parts, f"hf:{name}")
        parts = parts[split]
    return {**parts} if isinstance(parts, Mapping) else {str(parts.split or NO_SPLIT): parts}


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
        problem = f"could not write the images of hf:{name} ({error}). Set OODML_CACHE to a"
        raise error_at(target.parent, f"{problem} folder with write access") from error
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as temporary:
        written = Path(temporary) / "images"
        for part, rows in parts.items():
            if not isinstance(rows.features[image], datasets.Image):
                raise error_at(f"hf:{name}", f"column {image!r} does not contain images", image)
            (written / part).mkdir(parents=True)
            raw = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
            for number, row in enumerate(raw):
                if (cell := row[image]) is None:
                    raise error_at(f"hf:{name}, {part} {number}", "the image is missing")
                suffix, data = Path(cell["path"] or "").suffix.lower() or ".image", cell["bytes"]
                content = Path(cell["path"]).read_bytes() if data is None else data
                (written / part / f"{number:08}{suffix}").write_bytes(content)
        written.rename(target)
    return target


def _texts(name: str, rows: Any, column: str) -> Names:
    """A column as text: the names of class labels, or the values."""
    values, feature = rows[column][:], rows.features[column]
    named = hasattr(feature, "int2str")
    empty = (None, "", -1) if named else (None, "")  # -1 is an unlabeled row
    missing = [row for row, value in enumerate(values) if value in empty]
    if missing:
        what = f"column {column!r} is empty in row {missing[0]} (counted from 0)"
        problem = f"hf:{name}: {what}; {len(missing)} of {len(values)} rows are empty"
        raise OodmlError(problem, location=f"{column}, row {missing[0]}")
    return np.array(list(feature.int2str(values) if named else map(str, values)), dtype=np.str_)
