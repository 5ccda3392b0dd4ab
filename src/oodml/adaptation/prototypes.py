"""Baselines that take no step: heads in closed form from the support embeddings."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize, one_hot, pad

from oodml.adaptation.batches import Support
from oodml.adaptation.heads import Heads
from oodml.errors import OodmlError


def class_means(embeddings: Float[Tensor, "s v d"], support: Support) -> Float[Tensor, "c d"]:
    """The mean embedding of each support class, over its images and their views."""
    rows = embeddings.mean(1)
    present = torch.arange(support.members.shape[1]) < support.counts[:, None]
    weights = (present / support.counts[:, None]).to(rows)
    return torch.einsum("ckd,ck->cd", rows[support.members.to(rows.device)], weights)


def prototype_heads(
    head: Heads, views: Float[Tensor, "s v f"], support: Sequence[Support]
) -> Heads:
    """Embed by the similarity to each support class's mean (Snell et al., 2017).

    The means are scaled to length one, then centred: what all share tells no class from another.
    """
    embeddings = _embedded(head, views)
    means = [normalize(class_means(embeddings, one), dim=1) for one in support]
    return _composed(head, [rows - rows.mean(0) for rows in means])


def ridge_heads(
    head: Heads, views: Float[Tensor, "s v f"], support: Sequence[Support], ridge: float
) -> Heads:
    """Embed by the scores of a linear classifier: ridge regression on the support classes.

    Ridge regression as the last layer of few-shot learning is from Bertinetto et al., 2019.
    """
    embeddings = _embedded(head, views)
    return _composed(head, [_ridge(embeddings, one, ridge) for one in support])


def _ridge(
    embeddings: Float[Tensor, "s v d"], support: Support, ridge: float
) -> Float[Tensor, "c d"]:
    present = torch.arange(support.members.shape[1]) < support.counts[:, None]
    classes, places = torch.nonzero(present, as_tuple=True)
    inputs = embeddings[support.members[classes, places].to(embeddings.device)].flatten(0, 1)
    labels = classes.repeat_interleave(embeddings.shape[1]).to(inputs.device)
    targets = one_hot(labels, len(support.names)).to(inputs.dtype)
    targets = targets - targets.mean(1, keepdim=True)
    gram = inputs.T @ inputs
    gram.diagonal().add_(ridge)
    weights: Tensor = torch.linalg.solve(gram, inputs.T @ targets)
    return weights.T


def _embedded(head: Heads, views: Float[Tensor, "s v f"]) -> Float[Tensor, "s v d"]:
    return head.embed(views.flatten(0, 1)[None])[0].view(*views.shape[:2], -1)


def _composed(head: Heads, projections: Sequence[Float[Tensor, "_ d"]]) -> Heads:
    """The heads that give each projection of the head's embedding, scaled to length one.

    A positive factor of an embedding changes nothing then, so the scaling in between falls away
    and one linear layer remains. Episodes with fewer classes get outputs that are always zero.
    """
    if len(head.part_weights) > 1:
        raise OodmlError(
            f"a head of {len(head.part_weights)} parts, each normalised apart, has no closed form "
            'of "prototypes" or "linear"; use a loss'
        )
    most = max(len(rows) for rows in projections)
    stacked = torch.stack([pad(rows, (0, 0, 0, most - len(rows))) for rows in projections])
    weight = stacked @ head.weight
    bias = None if head.bias is None else stacked @ head.bias[0]
    return Heads(weight, bias)
