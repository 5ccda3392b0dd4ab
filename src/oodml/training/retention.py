"""Staying close to the pretrained model: retention terms, weight averages, and their path."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodml.backbones import Backbone
from oodml.losses.s2sd import Loss as SimilarityDistillation
from oodml.methods._base import Batch
from oodml.model import Embedder
from oodml.training.settings import Retain

RELATION_TEMPERATURE = 0.1
"""Temperature of the softmax over the cosines of a batch."""


class Retention:
    """Penalties for the distance to the pretrained model.

    "embedding" is the mean of 1 - cosine between the pooled features of the trained and of the
    pretrained backbone, so it does not depend on the new head. "relation" is the KL divergence
    between the softmax of the cosines of a batch of embeddings and that of pretrained features
    (temperature 0.1). "weights" is half the squared distance of the trained parameters of the
    backbone (L2-SP, Li et al. 2018, arXiv 1802.01483).

    Args:
        settings: the weight of each term.
        model: the model before training.
        parameters: the parameters of the backbone that train.
        teacher: pretrained features [n f] of the test view of each row of the source. By default
            they are computed in each step, for the same view that the model sees.
    """

    def __init__(
        self,
        settings: Retain,
        model: Embedder,
        parameters: Sequence[nn.Parameter],
        teacher: Float[Tensor, "n f"] | None,
    ) -> None:
        self.settings, self.teacher = settings, teacher
        self.parameters = list(parameters) if settings.weights else []
        self.start = [parameter.detach().clone() for parameter in self.parameters]
        self.distillation = SimilarityDistillation(RELATION_TEMPERATURE)
        self.pretrained: Embedder | None = None
        needs_features = bool(settings.embedding or settings.relation)
        if needs_features and teacher is None and model.trained_backbone is not None:
            self.pretrained = copy.deepcopy(model).requires_grad_(False).eval()

    def terms(self, batch: Batch, rows: Tensor) -> dict[str, Tensor]:
        """The terms that depend on a batch, whose images are these rows of the source."""
        terms: dict[str, Tensor] = {}
        if not (self.settings.embedding or self.settings.relation):
            return terms
        target = self._target(batch, rows)
        if self.settings.embedding:
            cosine = nn.functional.cosine_similarity(batch.features, target, dim=1)
            terms["retain_embedding"] = self.settings.embedding * (1 - cosine).mean()
        if self.settings.relation:
            relation = self.distillation(batch.embeddings, target)
            terms["retain_relation"] = self.settings.relation * relation
        return terms

    def _target(self, batch: Batch, rows: Tensor) -> Float[Tensor, "n f"]:
        if self.teacher is not None:
            return self.teacher[rows].to(batch.features)
        if self.pretrained is None:  # cached features of a frozen backbone
            return batch.features
        assert batch.images is not None
        with torch.no_grad():
            return batch.encode(self.pretrained, batch.images)

    @torch.no_grad()
    def pull_weights(self) -> dict[str, Tensor]:
        """Add the gradient of the term of the weights, after those of the processes are summed."""
        pairs = zip(self.parameters, self.start, strict=True)
        trained = [(p.detach(), start, p.grad) for p, start in pairs if p.grad is not None]
        if not trained:
            return {}
        gaps = torch._foreach_sub([p for p, *_ in trained], [start for _, start, _ in trained])
        gradients = [gradient for *_, gradient in trained]
        torch._foreach_add_(gradients, gaps, alpha=self.settings.weights)
        total = torch.stack(torch._foreach_norm(gaps)).square().sum()
        return {"retain_weights": self.settings.weights * total / 2}


class MovingAverage:
    """Exponential moving average of parameters.

    Args:
        parameters: the parameters.
        decay: share of the average that remains in each step.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = list(parameters), decay
        self.average = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take the parameters after a step into account."""
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters have their averages inside the block."""
        before = [parameter.detach().clone() for parameter in self.parameters]
        self._copy(self.average)
        try:
            yield
        finally:
            self._copy(before)

    @torch.no_grad()
    def _copy(self, values: Sequence[Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)


def backbone_weights(backbone: Backbone) -> dict[str, Tensor]:
    """A copy of a backbone's floating-point state."""
    state = backbone.state_dict()
    return {k: value.detach().clone() for k, value in state.items() if value.is_floating_point()}


def search_path(
    backbone: Backbone,
    start: dict[str, Tensor],
    shares: Sequence[float],
    evaluate: Callable[[], tuple[dict[str, float], dict[str, float]]],
    score: Callable[[dict[str, float]], float],
) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Evaluate the path from pretrained to trained weights (WiSE-FT, arXiv 2109.01903).

    The backbone is left with the best weights; its head keeps the trained ones on the whole path.

    Args:
        start: the pretrained weights.
        shares: the shares of the trained weights to try; 0 and 1 are added.
        evaluate: computes the metrics of a point, and the row that records it.
        score: the value to maximize, given these metrics.

    Returns:
        One row per point, with its "share", and the metrics of the best one.
    """
    end = backbone_weights(backbone)
    points = sorted({0.0, *shares, 1.0})
    measured, rows = [], []
    for share in points:
        _interpolate(backbone, start, end, share)
        metrics, row = evaluate()
        measured.append(metrics)
        rows.append({"share": share} | row)
    best = max(range(len(points)), key=lambda i: (score(measured[i]), points[i]))
    _interpolate(backbone, start, end, points[best])
    return rows, measured[best]


@torch.no_grad()
def _interpolate(
    backbone: Backbone, start: dict[str, Tensor], end: dict[str, Tensor], share: float
) -> None:
    state = backbone.state_dict()
    for name, value in end.items():
        state[name].copy_(value if share == 1 else start[name].to(value).lerp(value, share))
