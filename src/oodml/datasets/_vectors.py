"""Files of vectors as data: .npz, .safetensors, .npy with a .csv, or Parquet without paths."""

from pathlib import Path

from oodml.images.image_set import VectorImages
from oodml.vectors import VectorSet

SUFFIXES = (".npz", ".safetensors", ".npy")


def is_vector_file(path: Path) -> bool:
    """Whether a file contains vectors: a Parquet file with a column "path" lists images."""
    suffix = path.suffix.lower()
    if suffix != ".parquet":
        return suffix in SUFFIXES
    import pyarrow.parquet as pq

    try:
        return "path" not in pq.read_schema(path).names
    except (OSError, ValueError):  # damaged; the reader of tables raises the error
        return False


def open_vectors(path: Path, name: str | None = None) -> VectorImages:
    """The rows of a file of vectors, sorted by id."""
    vectors = VectorSet.load(path)
    vectors = vectors.select(vectors.ids.argsort(kind="stable"))
    return VectorImages(
        name or path.stem,
        vectors.ids,
        vectors.classes,
        vectors.superclasses,
        pixels=vectors.vectors,
    )
