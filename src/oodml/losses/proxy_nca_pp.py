"""ProxyNCA++ (Teh et al. 2020, arXiv 2004.01113)."""

from torch import Generator

from oodml.losses import proxy_nca


class Loss(proxy_nca.Loss):
    """Cross-entropy of the correct class vector among all, by squared distance on a sphere.

    Of the paper's improvements, this covers the proxy assignment probability, the temperature (as
    the length `radius` of the compared vectors, temperature = radius^-2), and the faster class
    vectors (`lr_factor`).
    """

    def __init__(
        self,
        n_classes: int,
        dim: int,
        radius: float = 3.0,
        lr_factor: float = 1000.0,
        generator: Generator | None = None,
    ) -> None:
        more = {"lr_factor": lr_factor, "generator": generator}
        super().__init__(n_classes, dim, radius, to_probability=True, **more)  # type: ignore[arg-type]
