"""Data sets, one file each: `dataset(...) -> ImageSet`."""

from pathlib import Path
from typing import Any

from oodml.catalog import load, names
from oodml.datasets._check import without_corrupt
from oodml.datasets._few import a_few
from oodml.errors import OodmlError, unknown
from oodml.images.image_set import ImageSet

__all__ = ["is_import_path", "open_images", "without_corrupt"]

TABLES = (".csv", ".tsv", ".parquet")
"""The suffixes by which a file is taken for a table of images."""


def open_images(
    data: str | Path,
    *,
    few: tuple[int, int] | None = None,
    skip_corrupt: bool = False,
    **options: Any,
) -> ImageSet:
    """The images of a data set's name, of a folder, or of a table of paths and classes.

    data: a name such as "glyphs" or "cub200"; "hf:NAME" for one of Hugging Face; an import path
    "package.module:function"; the path of a folder `class/image` or `superclass/class/image`,
    or of a CSV or Parquet table.
    few: only so many classes, and so many images of each, to try things with.
    skip_corrupt: leave out images that can't be read; `left_out` of the set then names them.
    options: what the data set takes, e.g. `root` for cub200. A name goes before a folder of
    the same name; write "./cub200" for the folder. Raises `OodmlError` if there is no such.
    """
    images = _opened(data, options)
    images = images if few is None else a_few(images, *few)
    return without_corrupt(images) if skip_corrupt else images


def _opened(data: str | Path, options: dict[str, Any]) -> ImageSet:
    if isinstance(data, str) and data.startswith("hf:"):
        return _loaded("huggingface", options, name=data.removeprefix("hf:"))
    if isinstance(data, str) and (is_import_path(data) or data in names("datasets")):
        return _loaded(data, options)
    path = Path(data).expanduser()
    if path.is_dir():
        return _loaded("folder", options, root=path)
    if path.is_file() and path.suffix.lower() in TABLES:
        return _loaded("table", options, path=path)
    if path.is_file():
        raise OodmlError(f"{path}: not a folder and not a table of images ({', '.join(TABLES)})")
    if isinstance(data, str) and path.name == data and not path.suffix:
        raise unknown("data set or folder", data, names("datasets"))
    raise OodmlError(f"{path}: no such folder or table of images")


def _loaded(kind: str, options: dict[str, Any], /, **given: Any) -> ImageSet:
    """Call a data set's function; an option that is missing or is `given` already is an error."""
    for option in options.keys() & given.keys():
        raise OodmlError(f"{given[option]}: a {kind} takes no option {option!r}")
    try:
        images = load("datasets", kind, **options, **given)
    except TypeError as error:
        if "missing" not in str(error):
            raise
        raise OodmlError(f"{kind}: {str(error).partition(' ')[2]}") from error
    if not isinstance(images, ImageSet):
        raise OodmlError(f"{kind} gave {type(images).__name__}; an ImageSet is expected")
    return images


def is_import_path(data: str) -> bool:
    """Whether a data set is named as `package.module:function`, so that opening it runs code."""
    module, colon, name = data.partition(":")
    return bool(colon) and name.isidentifier() and module.replace(".", "").isidentifier()
