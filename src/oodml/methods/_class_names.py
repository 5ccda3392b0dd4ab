"""Vectors of class names, for objectives that use language."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from oodml import catalog
from oodml.errors import OodmlError
from oodml.vectors import VectorSet


def embed_class_names(
    names: Sequence[str], source: str | None = None
) -> Float[Tensor, "c t"] | None:
    """One vector per class name; None without names.

    Args:
        names: names of the classes.
        source: a file of vectors whose classes include the names (the vectors of a class are
            averaged), or the import path `package.module:function` of a function from a list of
            names to vectors [c t], such as a text model. By default, counts of letter trigrams.

    Raises:
        OodmlError: if a class has no vector, or the vectors have the wrong shape.
    """
    if not names:
        return None
    if source is None:
        return trigram_counts(names)
    if not Path(source).exists() and ":" in source:
        vectors = torch.as_tensor(np.asarray(catalog.import_object(source)(list(names)))).float()
        if vectors.ndim != 2 or len(vectors) != len(names):
            given = tuple(vectors.shape)
            message = (
                f"{source}: returned an array {list(given)}; expected [{len(names)} t], one row "
                "per class name"
            )
            raise OodmlError(message, "class_vectors", given)
        return vectors
    stored = VectorSet.load(source)
    missing = sorted(set(names) - set(stored.classes.tolist()))
    if missing:
        problem = f"{source}: no vector for the class {missing[0]!r} ({len(missing)} are missing)"
        raise OodmlError(problem, "class_vectors", missing)
    means = [stored.vectors[stored.classes == name].mean(0) for name in names]
    return torch.from_numpy(np.stack(means)).float()


def trigram_counts(names: Sequence[str]) -> Float[Tensor, "c t"]:
    """How often each sequence of three letters of all names occurs in each name."""
    padded = [f"  {name.lower()} " for name in names]
    parts = [[text[i : i + 3] for i in range(len(text) - 2)] for text in padded]
    columns = {part: i for i, part in enumerate(sorted({one for some in parts for one in some}))}
    counts = torch.zeros(len(names), len(columns))
    for row, some in enumerate(parts):
        for part in some:
            counts[row, columns[part]] += 1
    return counts
