import numpy as np
import torch

from oodml.evaluate.inputs import as_vectors, find_duplicates
from oodml.evaluate.precision import unit_rows


def test_find_duplicates_anywhere() -> None:
    rows = torch.randn(40, 30, generator=torch.Generator().manual_seed(0))
    rows[17], rows[30], rows[31] = rows[4], rows[4], rows[29]
    rows[0, 0], rows[1] = 0.0, rows[0]
    rows[1, 0] = -0.0
    rows[6] = rows[5]
    rows[6, 29] += 1  # differs in one entry
    for vectors in (rows, rows.double()):
        repeated, first = find_duplicates(vectors)
        assert repeated.tolist() == [1, 17, 30, 31]
        assert first.tolist() == [0, 4, 4, 29]
    assert [part.tolist() for part in find_duplicates(rows[:1])] == [[], []]


def test_rows_too_small_or_large_to_square_still_have_a_direction() -> None:
    rows = np.array([[3.0, 4.0], [3e-30, 4e-30], [3e30, 4e30]], dtype=np.float32)
    assert torch.allclose(
        unit_rows(as_vectors(rows, "cosine")), torch.tensor([0.6, 0.8]).expand(3, 2)
    )
