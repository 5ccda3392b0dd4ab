"""Adapt the heads of many episodes together, by gradient steps."""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from oodml.adaptation import objectives
from oodml.adaptation.batches import Batch, Support, SupportBatches
from oodml.adaptation.heads import Heads
from oodml.adaptation.settings import AdaptSettings


def adapted_heads(
    head: Heads,
    views: Float[Tensor, "s v f"],
    support: Sequence[Support],
    generators: Sequence[torch.Generator],
    settings: AdaptSettings,
    iterations: int,
) -> Heads:
    """The heads after so many steps on the support images of each episode.

    head: a single one, where all episodes start. views: of every support image of any episode.
    """
    heads = head.repeated(len(support))
    batches = SupportBatches(
        support, generators, views.shape[1], settings.batch_size, settings.per_class
    )
    classes = max(len(one.names) for one in support)
    drawn = batches.draw(iterations)
    take_steps(heads, views.flatten(0, 1), batches.labels(), drawn, classes, settings)
    return heads


@torch.no_grad()
def take_steps(
    heads: Heads,
    rows: Float[Tensor, "r f"],
    labels: Int[Tensor, " b"],
    batches: Iterable[Batch],
    classes: int,
    settings: AdaptSettings,
) -> None:
    """One step of the optimiser a batch; changes the heads.

    rows: the features that batches index. labels: which images of a batch are of one class.
    """
    place = rows.device
    labels = labels.to(place)
    beta = rows.new_full((len(heads.weight), classes), settings.beta).requires_grad_()
    heads.weight.grad = torch.zeros_like(heads.weight)
    layer = [heads.weight] if heads.bias is None else [heads.weight, heads.bias]
    optimizer = make_optimizer(layer, beta, settings)
    for batch in batches:
        chosen = rows.index_select(0, batch.rows.flatten().to(place))
        features = chosen.view(*batch.rows.shape, -1)
        outputs = heads.linear(features).requires_grad_()
        with torch.enable_grad():
            loss = episode_losses(heads.finish(outputs), labels, batch, beta, settings).sum()
        gradient, beta.grad = torch.autograd.grad(loss, (outputs, beta), allow_unused=True)
        _set_gradient(heads, features, gradient)
        optimizer.step()


def episode_losses(
    embeddings: Float[Tensor, "e b d"],
    labels: Int[Tensor, " b"],
    batch: Batch,
    beta: Float[Tensor, "e c"],
    settings: AdaptSettings,
) -> Float[Tensor, " e"]:
    """The loss of each episode's batch. beta: of each support class."""
    if settings.objective == "multisimilarity":
        return objectives.multisimilarity(embeddings, labels)
    triplets = objectives.mine(embeddings, labels, batch.uniform.to(embeddings.device))
    if settings.objective == "triplet":
        return objectives.triplet(embeddings, triplets, settings.margin)
    own_beta = beta.gather(1, batch.classes.to(embeddings.device))
    return objectives.margin(embeddings, triplets, own_beta, settings.margin)


def _set_gradient(
    heads: Heads, features: Float[Tensor, "e b f"], gradient: Float[Tensor, "e b d"]
) -> None:
    """The layer's gradient, into the buffer that it has: a new one costs half a product more."""
    assert heads.weight.grad is not None
    torch.bmm(gradient.transpose(1, 2), features, out=heads.weight.grad)
    if heads.bias is not None:
        heads.bias.grad = gradient.sum(1)


def make_optimizer(
    layers: Sequence[Tensor], beta: Tensor, settings: AdaptSettings
) -> torch.optim.Optimizer:
    """The optimiser of what is adapted and of β, without weight decay."""
    groups = [
        {"params": layers, "lr": settings.lr},
        {"params": [beta], "lr": settings.beta_lr},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, fused=True)
    return torch.optim.Adam(groups, fused=True)
