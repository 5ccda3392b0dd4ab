"""Adversarial separation of heads (Milbich et al. 2020, arXiv 2004.13458)."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Linear, ModuleDict, ReLU, Sequential
from torch.nn.functional import normalize

from oodml.losses._base import BaseLoss, full_precision
from oodml.shapes import Scalar


class Loss(BaseLoss):
    """Makes the outputs of heads unpredictable from each other.

    For each pair (source, target) a small network learns to predict the target output from the
    source output; gradients into both heads are reversed. The term of a pair is -weight times the
    mean squared elementwise product of target and prediction, both scaled to unit length.

    Args:
        dims, pairs: dimension of each head's output by name, and names of source and target heads.
        weight: weight of the sum of terms.
        hidden, lr: width and learning rate of the prediction networks.
    """

    dims: Mapping[str, int]
    pairs: Sequence[tuple[str, str]]
    weight: float = 1500.0
    hidden: int = 512
    lr: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        self.own_lr = self.lr
        self.regressors = ModuleDict()
        for a, b in self.pairs:
            layers = Linear(self.dims[a], self.hidden), ReLU(), Linear(self.hidden, self.dims[b])
            self.regressors[f"{a}-{b}"] = Sequential(*layers)

    def forward(self, outputs: Mapping[str, Float[Tensor, "n _"]]) -> Scalar:
        """Return the sum of the terms of all pairs."""
        with torch.autocast(next(iter(outputs.values())).device.type, enabled=False):
            rows = {name: full_precision(x) for name, x in outputs.items()}
            reversed_ = {name: 2 * x.detach() - x for name, x in rows.items()}  # of the gradients
            terms = [self.term(reversed_[a], reversed_[b], f"{a}-{b}") for a, b in self.pairs]
            return torch.stack(terms).sum()

    def term(self, source: Float[Tensor, "n s"], target: Float[Tensor, "n d"], name: str) -> Scalar:
        """The term of the pair `name`, before gradients are reversed."""
        source, target = (normalize(output, dim=1) for output in (source, target))
        predicted = normalize(self.regressors[name](source), dim=1)
        return -self.weight * (target * predicted).square().mean()
