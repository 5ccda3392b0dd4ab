"""Additive angular margin loss (Deng et al., 2019)."""

from oodml.methods import criterion
from oodml.methods._base import Sizes


class Method(criterion.Method):
    """Classification by angles to learned class vectors, the right one made harder.

    margin: in radians. scale: of the cosines. vector_lr: learning rate of the class vectors.
    published: clamp cosines as the original code does (see the table of deviations).
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
