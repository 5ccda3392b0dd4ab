"""Multi-similarity loss with built-in pair mining (Wang et al. 2019, arXiv 1904.06627)."""

from oodml.methods import criterion
from oodml.methods._base import Sizes


class Method(criterion.Method):
    """Softly weighted positive and negative pairs of each anchor.

    Args:
        positive_weight, negative_weight: sharpness of the sums (α and β in the paper).
        margin, threshold: tolerance of the mining, and similarity around which pairs are penalized
            (λ in the paper).
    """

    def __init__(
        self,
        sizes: Sizes,
        positive_weight: float = 2.0,
        negative_weight: float = 40.0,
        margin: float = 0.1,
        threshold: float = 0.5,
    ) -> None:
        weights = {"positive_weight": positive_weight, "negative_weight": negative_weight}
        options = {**weights, "margin": margin, "threshold": threshold}
        super().__init__(sizes, "multisimilarity", None, options)
