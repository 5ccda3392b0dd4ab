"""Linear heads of many episodes as stacked matrices, and their training by optimizer steps."""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from oodml import catalog
from oodml.adaptation.settings import AdaptSettings
from oodml.adaptation.support import Support, SupportBatch, SupportBatches
from oodml.errors import OodmlError
from oodml.model import IdentityHead, LinearHead
from oodml.progress import track
from oodml.randomness import repeatable


@dataclass(frozen=True)
class Heads:
    """Linear layers from features to embeddings, one per episode.

    `part_weights`: the embedding is a concatenation of this many equal parts; each is scaled to
    unit length and then by its weight (DiVA has four).
    """

    weight: Float[Tensor, "e d f"]
    bias: Float[Tensor, "e d"] | None = None
    normalize: bool = True
    part_weights: tuple[float, ...] = (1.0,)

    def embed(self, features: Float[Tensor, "#e n f"]) -> Float[Tensor, "e n d"]:
        """The embeddings of each episode's features."""
        return self.normalized(self.linear(features))

    def linear(self, features: Float[Tensor, "#e n f"]) -> Float[Tensor, "e n d"]:
        """The outputs before normalization."""
        features, weight = features.expand(len(self.weight), -1, -1), self.weight.transpose(1, 2)
        if self.bias is None:
            return torch.bmm(features, weight)
        return torch.baddbmm(self.bias[:, None], features, weight)

    def normalized(self, outputs: Float[Tensor, "e n d"]) -> Float[Tensor, "e n d"]:
        """The linear layer's outputs after normalization."""
        if not self.normalize:
            return outputs
        if len(self.part_weights) == 1:
            return normalize(outputs, dim=2)
        parts = outputs.view(*outputs.shape[:2], len(self.part_weights), -1)
        scale = torch.tensor(self.part_weights, dtype=outputs.dtype, device=outputs.device)
        return normalize((normalize(parts, dim=3) * scale[:, None]).flatten(2), dim=2)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Heads":
        bias = None if self.bias is None else change(self.bias)
        return replace(self, weight=change(self.weight), bias=bias)

    def repeated(self, episodes: int) -> "Heads":
        """Copies of a single head for several episodes."""
        return self._map(lambda part: part.repeat(episodes, *[1] * (part.ndim - 1)))

    def to(self, device: torch.device) -> "Heads":
        """The heads on a device."""
        return self._map(lambda part: part.to(device))

    def __getitem__(self, episode: int) -> "Heads":
        return self._map(lambda part: part[episode][None])

    def module(self, like: nn.Module, episode: int = 0) -> nn.Module:
        """The head of one episode as a module, to save or export.

        If the new layer has the shape of `like`, the head that was adapted, the result is a copy of
        that with the new weights; otherwise it is a `LinearHead`.
        """
        weight = self.weight[episode]
        linear = getattr(like, "linear", None)
        if isinstance(linear, nn.Linear) and linear.weight.shape == weight.shape:
            head = deepcopy(like)
        else:
            head = LinearHead(weight.shape[1], weight.shape[0], self.normalize)
        target: nn.Linear = head.linear  # type: ignore[assignment]
        with torch.no_grad():
            target.weight.copy_(weight)
            if target.bias is not None:
                target.bias.zero_()
                if self.bias is not None:
                    target.bias.copy_(self.bias[episode])
        return head


def heads_of(module: nn.Module, features: int) -> Heads:
    """A copy of the linear layer of a model's head, to adapt.

    A head has an attribute `linear`, and optionally `normalize` and `part_weights`; an
    `IdentityHead` becomes the identity matrix of the dimension of `features`.
    """
    if isinstance(module, IdentityHead):
        return Heads(torch.eye(features)[None], normalize=module.normalize)
    linear = getattr(module, "linear", None)
    if not isinstance(linear, nn.Linear):
        name = type(module).__name__
        problem = f"head {name} has no linear layer `linear`; adaptation on features requires a"
        raise OodmlError(f"{problem} linear last layer", given=name)
    bias = None if linear.bias is None else linear.bias.detach().clone()[None]
    parts = tuple(getattr(module, "part_weights", (1.0,)))
    normalized = bool(getattr(module, "normalize", True))
    return Heads(linear.weight.detach().clone()[None], bias, normalized, parts)


def train_heads(
    head: Heads,
    views: Float[Tensor, "s v f"],
    support: Sequence[Support],
    generators: Sequence[torch.Generator],
    settings: AdaptSettings,
    iterations: int,
) -> Heads:
    """Train one head per episode on the views [s v f] of every support image of any episode."""
    heads = head.repeated(len(support))
    batches = SupportBatches(
        support, generators, views.shape[1], settings.batch_size, settings.per_class
    )
    classes = max(len(one.names) for one in support)
    drawn = track(batches.draw(iterations), "Adapting", iterations, "steps")
    with repeatable(views.device):
        take_steps(heads, views.flatten(0, 1), batches.labels(), drawn, classes, settings)
    return heads


@torch.no_grad()
def take_steps(
    heads: Heads,
    rows: Float[Tensor, "r f"],
    labels: Int[Tensor, " b"],
    batches: Iterable[SupportBatch],
    classes: int,
    settings: AdaptSettings,
) -> None:
    """Take one optimizer step per batch; modifies the heads in place."""
    device = rows.device
    labels = labels.to(device)
    adapter = catalog.load("few_shot_adapters", settings.objective, settings=settings)
    beta = rows.new_full((len(heads.weight), classes), settings.beta).requires_grad_()
    heads.weight.grad = torch.zeros_like(heads.weight)
    layer = [heads.weight] if heads.bias is None else [heads.weight, heads.bias]
    optimizer = make_optimizer(layer, beta, settings)
    for batch in batches:
        chosen = rows.index_select(0, batch.rows.flatten().to(device))
        features = chosen.view(*batch.rows.shape, -1)
        outputs = heads.linear(features).requires_grad_()
        with torch.enable_grad():
            loss = adapter.losses(heads.normalized(outputs), labels, batch, beta).sum()
        gradient, beta.grad = torch.autograd.grad(loss, (outputs, beta), allow_unused=True)
        # The gradient uses its existing buffer; allocating one takes half a product more.
        torch.bmm(gradient.transpose(1, 2), features, out=heads.weight.grad)
        if heads.bias is not None:
            heads.bias.grad = gradient.sum(1)
        optimizer.step()


def make_optimizer(
    layers: Sequence[Tensor], beta: Tensor, settings: AdaptSettings
) -> torch.optim.Optimizer:
    """The optimizer of the adapted layers and of β, without weight decay."""
    groups = [{"params": layers, "lr": settings.lr}, {"params": [beta], "lr": settings.beta_lr}]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, fused=True)
    return torch.optim.Adam(groups, fused=True)
