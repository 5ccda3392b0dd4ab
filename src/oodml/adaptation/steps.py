"""Adapt the heads of many episodes together by optimizer steps."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from oodml import catalog
from oodml.adaptation.heads import Heads
from oodml.adaptation.settings import AdaptSettings
from oodml.adaptation.support import Support, SupportBatch, SupportBatches
from oodml.progress import track


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
    """Take one optimizer step per batch; modifies the heads in place.

    Args:
        rows: [r f] the features that batches index.
        labels: [b] which images of a batch share a class.
    """
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
        _set_gradient(heads, features, gradient)
        optimizer.step()


def _set_gradient(
    heads: Heads, features: Float[Tensor, "e b f"], gradient: Float[Tensor, "e b d"]
) -> None:
    """Set the layer's gradient in its existing buffer; allocating one takes half a product more."""
    assert heads.weight.grad is not None
    torch.bmm(gradient.transpose(1, 2), features, out=heads.weight.grad)
    if heads.bias is not None:
        heads.bias.grad = gradient.sum(1)


def make_optimizer(
    layers: Sequence[Tensor], beta: Tensor, settings: AdaptSettings
) -> torch.optim.Optimizer:
    """The optimizer of the adapted layers and of β, without weight decay."""
    groups = [{"params": layers, "lr": settings.lr}, {"params": [beta], "lr": settings.beta_lr}]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, fused=True)
    return torch.optim.Adam(groups, fused=True)
