"""Types of the tensors that losses and miners take and return, with their shapes."""

from jaxtyping import Bool, Float, Int
from torch import Tensor

Vectors = Float[Tensor, "n d"]
"""Embeddings of a batch."""
Labels = Int[Tensor, " n"]
Triplets = Int[Tensor, "t 3"]
"""Rows of the batch: anchor, positive, negative."""
Mask = Bool[Tensor, " t"]
"""Which triplets count."""
Rows = Int[Tensor, " n"]
"""One row of the batch for each row."""
Square = Float[Tensor, "n n"]
PerTriplet = Float[Tensor, " t"]
MaskedTriplets = tuple[Triplets, Mask]
Uniform = Float[Tensor, "k n"]
"""Random numbers from U[0, 1), k for each row."""
Scalar = Float[Tensor, ""]
