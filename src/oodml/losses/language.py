"""Language guidance (Roth et al. 2022, arXiv 2203.08543)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import kl_div, normalize

from oodml.losses._base import LabelLoss, cosines
from oodml.shapes import Labels, Scalar, Vectors


class Loss(LabelLoss):
    """Distills the similarities of class names into the embedding; add it to another loss.

    KL divergence of the softmax of the cosines between rows from that of the cosines between the
    vectors of their class names. Pairs of one class have the value 1 + shift in both.

    Args:
        class_vectors: vector of each class name [n_classes t]; by default classes are equally
            unlike. The method `criterion` computes them from the names of the training classes.
        shift, temperature: added to the cosines of class names (γ in the paper), and their divisor.
    """

    cosines: Tensor

    def __init__(
        self,
        n_classes: int,
        class_vectors: Float[Tensor, "c t"] | None = None,
        shift: float = 1.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.shift, self.temperature = shift, temperature
        vectors = torch.eye(n_classes) if class_vectors is None else class_vectors.float()
        self.register_buffer("cosines", cosines(vectors, vectors), persistent=False)

    def compute(self, rows: Vectors, labels: Labels) -> Scalar:
        same = labels[:, None] == labels
        unit = normalize(rows, dim=1)
        named = self.cosines.to(unit)[labels][:, labels] + self.shift
        learned, target = (
            (values.masked_fill(same, 1 + self.shift) / self.temperature).log_softmax(1)
            for values in (unit @ unit.T, named)
        )
        loss = kl_div(learned, target, log_target=True, reduction="batchmean")
        return loss * self.temperature**2
