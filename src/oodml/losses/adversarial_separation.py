"""Adversarial separation of heads (Milbich et al. 2020, arXiv 2004.13458)."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from oodml.losses._base import BaseLoss, full_precision


class Loss(BaseLoss):
    """Makes heads unpredictable from each other.

    For each pair (source, target) a small network learns to predict the target from the source
    head; gradients are reversed into both heads. The term of a pair is -weight times the mean
    squared product of the entries of the target and the prediction, all of length 1.
    dims: size of each head. hidden: of the networks. lr: their learning rate.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        pairs: Sequence[tuple[str, str]],
        weight: float = 1500.0,
        hidden: int = 512,
        lr: float = 1e-5,
    ) -> None:
        super().__init__()
        self.pairs = list(pairs)
        self.weight = weight
        self.lr = lr
        self.regressors = nn.ModuleDict(
            {
                f"{source}-{target}": nn.Sequential(
                    nn.Linear(dims[source], hidden), nn.ReLU(), nn.Linear(hidden, dims[target])
                )
                for source, target in self.pairs
            }
        )

    def forward(self, heads: Mapping[str, Float[Tensor, "n _"]]) -> Float[Tensor, ""]:
        """The sum over pairs, of the outputs of the heads by name."""
        device = next(iter(heads.values())).device
        with torch.autocast(device.type, enabled=False):
            reverse = {name: reversed_gradient(full_precision(x)) for name, x in heads.items()}
            terms = [self.term(reverse[a], reverse[b], f"{a}-{b}") for a, b in self.pairs]
            return torch.stack(terms).sum()

    def term(
        self, source: Float[Tensor, "n s"], target: Float[Tensor, "n d"], name: str
    ) -> Float[Tensor, ""]:
        """The term of one pair."""
        source, target = (functional.normalize(head, dim=1) for head in (source, target))
        predicted = functional.normalize(self.regressors[name](source), dim=1)
        return -self.weight * (target * predicted).square().mean()

    def own_lr(self, lr: float) -> float:
        return self.lr


def reversed_gradient(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The same values, whose gradient is negated."""
    return 2 * values.detach() - values
