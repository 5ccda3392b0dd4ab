"""Proxy anchor loss (Kim et al., 2020)."""

from oodml.methods import criterion
from oodml.methods._base import Sizes


class Method(criterion.Method):
    """A learned proxy per class is the anchor; the batch's samples are pulled and pushed.

    alpha: sharpness. delta: margin. lr_factor: learning rate of the proxies over the base.
    published: weight classes by their count in the batch, as the original code does.
    """

    def __init__(
        self,
        sizes: Sizes,
        alpha: float = 32.0,
        delta: float = 0.1,
        lr_factor: float = 2000.0,
        published: bool = False,
    ) -> None:
        options = {
            "alpha": alpha,
            "delta": delta,
            "lr_factor": lr_factor,
            "published": published,
        }
        super().__init__(sizes, "proxy_anchor", None, options)
