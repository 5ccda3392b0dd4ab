"""Margin loss with the ρ-regularisation (Roth et al. 2020, arXiv 2002.08473)."""

from oodml.methods import criterion
from oodml.methods._base import Sizes


class Method(criterion.Method):
    """Margin loss that sometimes pushes a class apart instead of other classes away.

    probability: of a triplet (a, a, other row of a's class). margin, beta, beta_lr: as in
    margin. The paper's values for CUB, CARS, SOP: probability .4, .35, .15; beta .6, .6, .9.
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
