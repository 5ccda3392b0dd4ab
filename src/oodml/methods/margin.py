"""Margin loss with distance-weighted negatives (Wu et al., 2017)."""

from oodml.methods import criterion
from oodml.methods._base import Sizes


class Method(criterion.Method):
    """A boundary β per class, learned; one triplet an anchor.

    margin: on either side of β. beta: where β starts. beta_lr: its learning rate.
    miner: how the negative of a pair is chosen.
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
