"""Similarity distillation (S2SD, Roth et al. 2021, arXiv 2009.08348)."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import kl_div, normalize

from oodml.losses._base import BaseLoss, full_precision
from oodml.shapes import Scalar


class Loss(BaseLoss):
    """Mean over rows of KL(softmax of teacher similarities ‖ softmax of student similarities).

    Similarities are the cosines to all rows, including the row itself, divided by `temperature`.
    """

    temperature: float = 1.0

    def forward(self, student: Float[Tensor, "n d"], teacher: Float[Tensor, "n t"]) -> Scalar:
        """Return the loss of a batch; no gradient flows to the teacher."""
        with torch.autocast(student.device.type, enabled=False):
            units = (normalize(full_precision(x), dim=1) for x in (student, teacher.detach()))
            learned, target = ((x @ x.T / self.temperature).log_softmax(1) for x in units)
            return kl_div(learned, target, log_target=True, reduction="batchmean")
