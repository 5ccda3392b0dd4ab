"""Adapt the heads of many episodes together, by gradient steps."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from oodml.adaptation import objectives
from oodml.adaptation.batches import Batch, Support, SupportBatches
from oodml.adaptation.heads import Heads
from oodml.adaptation.settings import AdaptSettings


@torch.no_grad()
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
    The gradient of the layer is two batched products, written here into a kept buffer: a fresh
    one of e·d·f numbers each step costs as much as a product.
    """
    heads = head.repeated(len(support))
    batches = SupportBatches(
        support, generators, views.shape[1], settings.batch_size, settings.per_class
    )
    labels = batches.labels().to(views.device)
    beta = torch.full(
        (len(support), max(len(one.names) for one in support)), settings.beta, dtype=views.dtype
    )
    beta = beta.to(views.device).requires_grad_()
    optimizer = _optimizer(heads, beta, settings)
    flat = views.flatten(0, 1)
    for batch in batches.draw(iterations):
        features = flat[batch.rows.flatten().to(flat.device)].view(*batch.rows.shape, -1)
        outputs = heads.linear(features).requires_grad_()
        with torch.enable_grad():
            loss = _loss(heads.finish(outputs), labels, batch, beta, settings).sum()
        gradient, beta.grad = torch.autograd.grad(loss, (outputs, beta), allow_unused=True)
        _set_gradient(heads, features, gradient)
        optimizer.step()
    return heads


def _loss(
    embeddings: Float[Tensor, "e b d"],
    labels: Int[Tensor, " b"],
    batch: Batch,
    beta: Float[Tensor, "e c"],
    settings: AdaptSettings,
) -> Float[Tensor, " e"]:
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
    assert heads.weight.grad is not None
    torch.bmm(gradient.transpose(1, 2), features, out=heads.weight.grad)
    if heads.bias is not None:
        heads.bias.grad = gradient.sum(1)


def _optimizer(heads: Heads, beta: Tensor, settings: AdaptSettings) -> torch.optim.Optimizer:
    layer = [heads.weight] if heads.bias is None else [heads.weight, heads.bias]
    heads.weight.grad = torch.zeros_like(heads.weight)
    groups = [
        {"params": layer, "lr": settings.lr},
        {"params": [beta], "lr": settings.beta_lr},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum, fused=True)
    return torch.optim.Adam(groups, fused=True)
