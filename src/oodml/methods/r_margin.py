"""Margin loss with ρ-regularization (Roth et al. 2020, arXiv 2002.08473)."""

from oodml.methods import criterion
from oodml.methods._base import Sizes


class Method(criterion.Method):
    """Margin loss in which some triplets push rows of one class apart.

    Values of the paper for CUB, CARS, SOP: probability .4, .35, .15; beta .6, .6, .9.
    `probability` is that of a triplet (anchor, anchor, other row of the anchor's class); `margin`,
    `beta`, and `beta_lr` are as in the method margin.
    """

    def __init__(
        self,
        sizes: Sizes,
        probability: float = 0.4,
        margin: float = 0.2,
        beta: float = 0.6,
        beta_lr: float = 5e-4,
    ) -> None:
        options = {"margin": margin, "beta": beta, "beta_lr": beta_lr}
        super().__init__(sizes, "margin", "rho_distance", options, {"probability": probability})
