"""Datasets, one file each: `dataset(...) -> ImageSet`."""

import difflib
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from oodml.arrays import Names
from oodml.catalog import check_options, load, names
from oodml.datasets._check import data_line as data_line
from oodml.datasets._check import describe_gaps as describe_gaps
from oodml.datasets._check import without_corrupt as without_corrupt
from oodml.datasets._few import reduce_images
from oodml.datasets.huggingface import is_saved_dataset
from oodml.datasets.table import table_columns
from oodml.errors import OodmlError, error_at, unknown
from oodml.images.image_set import ImageSet, VectorImages
from oodml.vectors import VectorSet

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
VECTOR_SUFFIXES = (".npz", ".safetensors", ".npy")


def open_images(
    data: str | Path,
    *,
    few: tuple[int, int] | None = None,
    skip_corrupt: bool = False,
    background: str | None = None,
    **options: Any,
) -> ImageSet:
    """Open a dataset by name, a folder of images, a table of paths and classes, or vectors.

    A name takes precedence over a folder ("./cub200" is the folder), a path over an import path.

    Args:
        data: a name such as "glyphs", or with its root "cub200:data/cub200"; "hf:NAME" for Hugging
            Face; an import path "module:function"; or the path of a folder `class/image` or
            `superclass/class/image`, a CSV or Parquet table, a folder of `save_to_disk` of Hugging
            Face `datasets`, or a file of vectors.
        few: load only this many classes and this many images per class, for quick tests.
        skip_corrupt: leave out images that cannot be read; `left_out` of the result lists them.
        background: the color behind transparent pixels: "white" (the default), "black", "#rrggbb".
        options: options of the dataset, such as `root` for cub200.

    Raises:
        OodmlError: if the dataset or an option does not exist.
    """
    images = _open(data, options)
    images = images if background is None else replace(images, background=background)
    images = images if few is None else reduce_images(images, *few)
    return without_corrupt(images) if skip_corrupt else images


def open_unlabeled(data: str | Path, *, skip_corrupt: bool = False) -> ImageSet:
    """Open images whose classes are not used: a folder with images at any depth, or as above."""
    path = Path(data).expanduser()
    known = isinstance(data, str) and data in names("datasets")
    is_folder = path.is_dir() and not known and not is_saved_dataset(path)
    if not path.exists() and not known and ":" not in str(data):
        raise _unknown_data(data, [])
    options: dict[str, Any] = {"labeled": False} if is_folder else {}
    return open_images(data, skip_corrupt=skip_corrupt, **options)


def image_column(data: str | Path, images: ImageSet, name: str) -> Names:
    """[n] the value of each image in a column: "superclass", an attribute, or one of a table."""
    columns, path = dict(images.attributes), Path(data).expanduser()
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        columns = table_columns(path, images) | columns
    if images.superclasses is not None:
        columns["superclass"] = images.superclasses
    if name not in columns:
        raise unknown("column", name, sorted(columns), images.name)
    return columns[name]


def _open(data: str | Path, options: dict[str, Any]) -> ImageSet:
    if isinstance(data, str) and data.startswith("hf:"):
        return _load("huggingface", options, name=data.removeprefix("hf:"))
    if isinstance(data, str) and data.partition(":")[0] in names("datasets"):
        name, _, root = data.partition(":")
        return _load(name, options | ({"root": root} if root else {}))
    if isinstance(data, str) and is_import_path(data):
        module = data.partition(":")[0]
        top = module.partition(".")[0]
        is_script = top in sys.modules and sys.modules[top].__spec__ is None
        spec = None if is_script else importlib.util.find_spec(top)
        if not is_script and (spec is None or (spec.origin is None and "." not in module)):
            raise _unknown_data(data)
        return _load(data, options)
    path = Path(data).expanduser()
    if path.is_dir():
        saved = is_saved_dataset(path)
        fixed: dict[str, Any] = {"name": str(path)} if saved else {"root": path}
        return _load("huggingface" if saved else "folder", options, **fixed)
    if not path.exists():
        raise _unknown_data(data)
    if not path.is_file():
        raise error_at(path, "neither a file nor a folder")
    if is_vector_file(path):
        check_options(open_vectors, options, path.name)
        return open_vectors(path, **options)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        allowed = (*TABLE_SUFFIXES, *VECTOR_SUFFIXES)
        problem = f"not a folder, nor a table of images or vectors ({', '.join(allowed)})"
        raise error_at(path, problem, allowed=allowed)
    return _load("table", options, path=path)


def _unknown_data(data: str | Path, known: list[str] | None = None) -> OodmlError:
    """The error for a path or name that does not exist, with similar ones as suggestions."""
    readers = ("folder", "huggingface", "table")  # no names of datasets
    known = [one for one in names("datasets") if one not in readers] if known is None else known
    path = Path(data).expanduser()
    parent, near = path.parent, difflib.get_close_matches(str(data), known, n=1, cutoff=0.7)
    if parent.is_dir():
        siblings = [entry.name for entry in parent.iterdir() if not entry.name.startswith(".")]
        close = difflib.get_close_matches(path.name, siblings, n=1)
        near = [*(str(parent / name) for name in close), *near]
    hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    if not near and not parent.exists():
        hint = f" The folder {str(parent)!r} does not exist either."
    module = f", no module {str(data).partition(':')[0]!r}" if is_import_path(str(data)) else ""
    listed = f", and none of the datasets {', '.join(known)}" if known else ""
    return error_at(data, f"no such file or folder{module}{listed}.{hint}", str(data), known)


def _load(kind: str, options: dict[str, Any], /, **fixed: Any) -> ImageSet:
    """Call a dataset's function; missing options, and options that are `fixed`, are errors."""
    for option in options.keys() & fixed.keys():
        raise error_at(fixed[option], f"option {option!r} is not allowed for a {kind}", option)
    try:
        images = load("datasets", kind, **options, **fixed)
    except TypeError as error:
        if "missing" not in str(error):
            raise
        hint = f". Pass it as {kind}:FOLDER" if "'root'" in str(error) else ""
        raise error_at(kind, str(error).partition(" ")[2] + hint) from error
    if not isinstance(images, ImageSet):
        raise error_at(kind, f"returned {type(images).__name__} instead of an ImageSet", images)
    return images


def is_import_path(data: str) -> bool:
    """Whether `data` names a user's function and no existing file; opening it runs user code."""
    module, colon, name = data.partition(":")
    identifiers = [*module.split("."), name]
    return bool(colon) and all(map(str.isidentifier, identifiers)) and not Path(data).exists()


def is_vector_file(path: Path) -> bool:
    """Whether a file contains vectors: a Parquet file with a column "path" lists images."""
    suffix = path.suffix.lower()
    if suffix != ".parquet":
        return suffix in VECTOR_SUFFIXES
    import pyarrow.parquet as pq

    try:
        return "path" not in pq.read_schema(path).names
    except (OSError, ValueError):  # damaged; the reader of tables raises the error
        return False


def open_vectors(path: Path, name: str | None = None) -> VectorImages:
    """The rows of a file of vectors, sorted by id."""
    vectors = VectorSet.load(path)
    vectors = vectors.select(vectors.ids.argsort(kind="stable"))
    rows = vectors.ids, vectors.classes, vectors.superclasses
    return VectorImages(name or path.stem, *rows, pixels=vectors.vectors)
