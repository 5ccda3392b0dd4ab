"""Language guidance (Roth et al. 2022, arXiv 2203.08543)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import kl_div, normalize

from oodml.losses._base import LabelLoss
from oodml.shapes import Labels, Scalar, Vectors


class Loss(LabelLoss):
    """Distills the similarities of class names into the embedding; add it to another loss.

    KL divergence of the softmax of the cosines between rows from that of the cosines between the
    vectors of their class names. Pairs of one class have the value 1 + shift in both.

    Args:
        class_vectors: vector of each class name [n_classes t]. By default all classes are equally
            unlike. The method `criterion` computes them from the names of the training classes.
        shift: added to the cosines between class names (γ in the paper).
        temperature: divisor of the cosines.
    """

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
        cosines = normalize(vectors, dim=1) @ normalize(vectors, dim=1).T
        self.register_buffer("cosines", cosines, persistent=False)

    cosines: Tensor

    def compute(self, embeddings: Vectors, labels: Labels) -> Scalar:
        same = labels[:, None] == labels
        unit = normalize(embeddings, dim=1)
        named = self.cosines.to(unit)[labels][:, labels] + self.shift
        logits = [
            values.masked_fill(same, 1 + self.shift) / self.temperature
            for values in (unit @ unit.T, named)
        ]
        learned, target = (one.log_softmax(1) for one in logits)
        loss = kl_div(learned, target, log_target=True, reduction="batchmean")
        return loss * self.temperature**2
