"""Array types that jaxtyping cannot express, and conversion of any array to floats."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oodml.errors import OodmlError, error_at

if TYPE_CHECKING:
    Names = NDArray[np.str_]
else:
    # At run time, strings of each length have their own type, which no annotation matches.
    Names = NDArray[Any]

EXACT_IN_FLOAT32 = 2**24
"""Every integer up to this size has an exact float32 value."""


def as_float_array(values: Any, name: str = "vectors") -> NDArray[Any]:
    """An array, tensor, data frame, or nested sequence of real numbers as a writable array: float64
    for float64, longer floats, and integers that float32 cannot represent, otherwise float32."""
    array = _as_array(values, name)
    if array.dtype.kind not in "biuf":
        given = str(array.dtype)
        raise OodmlError(f"{name} must be real numbers; given {given}", name, given)
    if array.dtype.kind == "f":
        fits = array.dtype.itemsize <= 4
    else:
        largest = max(abs(int(array.max())), abs(int(array.min()))) if array.size else 0
        fits = largest <= EXACT_IN_FLOAT32
    with np.errstate(over="ignore"):  # an infinite value is refused by its row
        return np.require(array, np.float32 if fits else np.float64, ["C", "W"])


def _as_array(values: Any, name: str) -> NDArray[Any]:
    if hasattr(values, "detach"):
        values = values.detach().to_dense().cpu()
        try:
            values = values.numpy()
        except TypeError:  # numpy has no bfloat16
            values = values.float().numpy()
    if np.ma.is_masked(values):
        row = int(np.flatnonzero(np.ma.getmaskarray(values).reshape(len(values), -1).any(1))[0])
        raise error_at(name, f"row {row} is masked", row)
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":  # rows that are arrays themselves, or numbers as objects
            array = np.array([np.asarray(row, dtype=np.float64) for row in array])
    except (TypeError, ValueError) as error:
        if not hasattr(values, "__iter__"):
            raise OodmlError(f"{name} must be [n d]; given {values!r}", location=name) from error
        lengths = [len(row) if hasattr(row, "__len__") else -1 for row in values]
        row = next((i for i, length in enumerate(lengths) if length != lengths[0]), 0)
        counts = [f"{length} numbers" if length >= 0 else "no list" for length in lengths]
        reason = f"row {row} has {counts[row]}, row 0 has {counts[0]}"
        raise error_at(name, reason if row else str(error), row) from error
    return array
