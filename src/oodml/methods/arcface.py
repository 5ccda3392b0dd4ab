"""ArcFace: additive angular margin loss (Deng et al. 2019, arXiv 1801.07698)."""

from oodml.methods import criterion
from oodml.methods._base import Sizes


class Method(criterion.Method):
    """Classification by angles to learned class vectors, with a margin on the correct angle.

    Args:
        margin, scale: angular margin in radians, and factor on the cosines.
        vector_lr: learning rate of the class vectors.
        published: clamp cosines as the original code does (see docs/deviations.md).
    """

    def __init__(
        self,
        sizes: Sizes,
        margin: float = 0.5,
        scale: float = 16.0,
        vector_lr: float = 5e-4,
        published: bool = False,
    ) -> None:
        options = {"margin": margin, "scale": scale, "vector_lr": vector_lr, "published": published}
        super().__init__(sizes, "arcface", None, options)
