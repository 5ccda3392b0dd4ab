"""Proxy-Anchor loss (Kim et al. 2020, arXiv 2003.13911)."""

from oodml.methods import criterion
from oodml.methods._base import Sizes


class Method(criterion.Method):
    """One learned vector per class attracts the rows of its class and repels all others.

    Args:
        alpha, delta: sharpness and margin.
        lr_factor: learning rate of the class vectors as a multiple of the base learning rate.
        published: weight classes by their number of rows in the batch, as the original code does.
    """

    def __init__(
        self,
        sizes: Sizes,
        alpha: float = 32.0,
        delta: float = 0.1,
        lr_factor: float = 2000.0,
        published: bool = False,
    ) -> None:
        options = {"alpha": alpha, "delta": delta, "lr_factor": lr_factor, "published": published}
        super().__init__(sizes, "proxy_anchor", None, options)
