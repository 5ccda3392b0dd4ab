"""Linear heads of many episodes as stacked matrices, and their training by optimizer steps."""

from collections.abc import Iterable, Sequence
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


@dataclass(frozen=True)
class Heads:
    """Linear layers from features to embeddings, one per episode.

    Attributes:
        weight: [e d f].
        bias: [e d] or None.
        part_weights: the embedding is a concatenation of this many equal parts; each is scaled to
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
        features = features.expand(len(self.weight), -1, -1)
        if self.bias is None:
            return torch.bmm(features, self.weight.transpose(1, 2))
        return torch.baddbmm(self.bias[:, None], features, self.weight.transpose(1, 2))

    def normalized(self, outputs: Float[Tensor, "e n d"]) -> Float[Tensor, "e n d"]:
        """The linear layer's outputs after normalization."""
        if not self.normalize:
            return outputs
        if len(self.part_weights) == 1:
            return normalize(outputs, dim=2)
        parts = outputs.view(*outputs.shape[:2], len(self.part_weights), -1)
        scale = torch.tensor(self.part_weights, dtype=outputs.dtype, device=outputs.device)
        return normalize((normalize(parts, dim=3) * scale[:, None]).flatten(2), dim=2)

    def repeated(self, episodes: int) -> "Heads":
        """Copies of a single head for several episodes."""
        bias = None if self.bias is None else self.bias.repeat(episodes, 1)
        return replace(self, weight=self.weight.repeat(episodes, 1, 1), bias=bias)

    def to(self, device: torch.device) -> "Heads":
        """The heads on a device."""
        bias = None if self.bias is None else self.bias.to(device)
        return replace(self, weight=self.weight.to(device), bias=bias)

    def __getitem__(self, episode: int) -> "Heads":
        bias = None if self.bias is None else self.bias[episode][None]
        return replace(self, weight=self.weight[episode][None], bias=bias)

    def module(self, like: nn.Module, episode: int = 0) -> nn.Module:
        """The head of one episode as a module, to save or export.

        Args:
            like: the head that was adapted. If the new layer has the same shape, the result is a
                copy with the new weights; otherwise it is a `LinearHead`.
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

    Args:
        module: a head with an attribute `linear`, and optionally `normalize` and `part_weights`;
            an `IdentityHead` becomes the identity matrix.
        features: the dimension of the features.

    Raises:
        OodmlError: if the head has no linear layer.
    """
    if isinstance(module, IdentityHead):
        return Heads(torch.eye(features)[None], normalize=module.normalize)
    linear = getattr(module, "linear", None)
    if not isinstance(linear, nn.Linear):
        raise OodmlError(
            f"head {type(module).__name__} has no linear layer `linear`; adaptation on features "
            "requires a linear last layer",
            given=type(module).__name__,
        )
    bias = None if linear.bias is None else linear.bias.detach().clone()[None]
    return Heads(
        linear.weight.detach().clone()[None],
        bias,
        bool(getattr(module, "normalize", True)),
        tuple(getattr(module, "part_weights", (1.0,))),
    )


def train_heads(
    head: Heads,
    views: Float[Tensor, "s v f"],
    support: Sequence[Support],
    generators: Sequence[torch.Generator],
    settings: AdaptSettings,
    iterations: int,
) -> Heads:
    """Train one head per episode.

    Args:
        views: [s v f] features of the views of every support image of any episode.
    """
    heads = head.repeated(len(support))
    batches = SupportBatches(
        support, generators, views.shape[1], settings.batch_size, settings.per_class
    )
    classes = max(len(one.names) for one in support)
    drawn = track(batches.draw(iterations), "Adapting", iterations, "steps")
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
