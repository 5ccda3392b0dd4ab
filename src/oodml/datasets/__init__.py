"""Data sets, one file each: `dataset(...) -> ImageSet`."""

from pathlib import Path
from typing import Any

from oodml.catalog import load, names
from oodml.datasets._check import without_corrupt
from oodml.datasets._few import reduce_images
from oodml.errors import OodmlError, unknown
from oodml.images.image_set import ImageSet

__all__ = ["is_import_path", "open_images", "without_corrupt"]

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")


def open_images(
    data: str | Path,
    *,
    few: tuple[int, int] | None = None,
    skip_corrupt: bool = False,
    **options: Any,
) -> ImageSet:
    """Open a data set by name, a folder of images, or a table of paths and classes.

    A name takes precedence over a folder of the same name; write "./cub200" for the folder.

    Args:
        data: a name such as "glyphs" or "cub200"; "hf:NAME" for a data set on Hugging Face; an
            import path "package.module:function"; or the path of a folder `class/image` or
            `superclass/class/image`, or of a CSV or Parquet table.
        few: load only this many classes and this many images per class, for quick tests.
        skip_corrupt: leave out images that cannot be read; `left_out` of the result lists them.
        options: options of the data set, such as `root` for cub200.

    Raises:
        OodmlError: if the data set or an option does not exist.
    """
    images = _open(data, options)
    images = images if few is None else reduce_images(images, *few)
    return without_corrupt(images) if skip_corrupt else images


def _open(data: str | Path, options: dict[str, Any]) -> ImageSet:
    if isinstance(data, str) and data.startswith("hf:"):
        return _load("huggingface", options, name=data.removeprefix("hf:"))
    if isinstance(data, str) and (is_import_path(data) or data in names("datasets")):
        return _load(data, options)
    path = Path(data).expanduser()
    if path.is_dir():
        return _load("folder", options, root=path)
    if path.is_file() and path.suffix.lower() in TABLE_SUFFIXES:
        return _load("table", options, path=path)
    if path.is_file():
        allowed = ", ".join(TABLE_SUFFIXES)
        message = f"{path}: not a folder and not a table of images ({allowed})"
        raise OodmlError(message, location=str(path), allowed=TABLE_SUFFIXES)
    if isinstance(data, str) and path.name == data and not path.suffix:
        raise unknown("data set or folder", data, names("datasets"))
    raise OodmlError(f"{path}: no such folder or table of images", location=str(path))


def _load(kind: str, options: dict[str, Any], /, **fixed: Any) -> ImageSet:
    """Call a data set's function; missing options, and options that are `fixed`, are errors."""
    for option in options.keys() & fixed.keys():
        message = f"{fixed[option]}: option {option!r} is not allowed for a {kind}"
        raise OodmlError(message, location=str(fixed[option]), given=option)
    try:
        images = load("datasets", kind, **options, **fixed)
    except TypeError as error:
        if "missing" not in str(error):
            raise
        message = f"{kind}: {str(error).partition(' ')[2]}"
        raise OodmlError(message, location=kind) from error
    if not isinstance(images, ImageSet):
        kind_given = type(images).__name__
        raise OodmlError(
            f"{kind}: returned {kind_given} instead of an ImageSet", location=kind, given=images
        )
    return images


def is_import_path(data: str) -> bool:
    """Whether `data` has the form `package.module:function`, so that opening it runs user code."""
    module, colon, name = data.partition(":")
    return bool(colon) and name.isidentifier() and module.replace(".", "").isidentifier()
