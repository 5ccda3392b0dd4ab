"""Multi-similarity loss with its own mining of pairs (Wang et al., 2019)."""

from oodml.methods import criterion
from oodml.methods._base import Sizes


class Method(criterion.Method):
    """Softly weighted positive and negative pairs of every anchor.

    positive_weight, negative_weight: the sharpness of either side (the paper's α and β).
    margin: by which a pair may miss the hardest of the other kind and still count.
    threshold: the similarity between the two kinds (the paper's λ).
    """

    def __init__(
        self,
        sizes: Sizes,
        positive_weight: float = 2.0,
        negative_weight: float = 40.0,
        margin: float = 0.1,
        threshold: float = 0.5,
    ) -> None:
        options = {
            "positive_weight": positive_weight,
            "negative_weight": negative_weight,
            "margin": margin,
            "threshold": threshold,
        }
        super().__init__(sizes, "multisimilarity", None, options)
