"""Distillation of similarities (S2SD, Roth et al. 2021, arXiv 2009.08348)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from oodml.losses._base import BaseLoss, full_precision


class Loss(BaseLoss):
    """Mean over rows of KL(softmax of the teacher's similarities ‖ softmax of the student's).

    Similarities are cosines / `temperature` to all rows of the batch, the row itself included.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(
        self, student: Float[Tensor, "n d"], teacher: Float[Tensor, "n t"]
    ) -> Float[Tensor, ""]:
        """Embeddings of the same rows; no gradient flows to the teacher."""
        with torch.autocast(student.device.type, enabled=False):
            learnt = self.log_shares(full_precision(student))
            given = self.log_shares(full_precision(teacher.detach()))
            return functional.kl_div(learnt, given, log_target=True, reduction="batchmean")

    def log_shares(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
        """Log-softmax of each row's similarities."""
        unit = functional.normalize(rows, dim=1)
        return (unit @ unit.T / self.temperature).log_softmax(1)
