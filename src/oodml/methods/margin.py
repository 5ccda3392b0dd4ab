"""Margin loss with distance-weighted negatives (Wu et al. 2017, arXiv 1706.07567)."""

from oodml.methods import criterion
from oodml.methods._base import Sizes


class Method(criterion.Method):
    """Margin loss with one learned boundary β per class and one triplet per anchor.

    `margin` is the distance on either side of β; `beta` and `beta_lr` are the initial β and its
    learning rate; `miner` is the name of the miner that chooses triplets.
    """

    def __init__(
        self,
        sizes: Sizes,
        margin: float = 0.2,
        beta: float = 1.2,
        beta_lr: float = 5e-4,
        miner: str = "distance",
    ) -> None:
        options = {"margin": margin, "beta": beta, "beta_lr": beta_lr}
        super().__init__(sizes, "margin", miner, options)
