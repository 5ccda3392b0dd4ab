"""A linear classifier: embed by the scores of ridge regression on the support classes.

Ridge regression as the last layer of few-shot learning is from Bertinetto et al., 2019.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from oodml.adaptation.heads import Heads
from oodml.adaptation.support import Support
from oodml.adapters._base import ClosedFormAdapter, embed_views, project


class Adapter(ClosedFormAdapter):
    """Uses `ridge` of the settings."""

    scores_classes = True

    def heads(
        self, head: Heads, views: Float[Tensor, "s v f"], support: Sequence[Support]
    ) -> Heads:
        """The head of each episode."""
        embeddings = embed_views(head, views)
        return project(head, [_ridge(embeddings, one, self.settings.ridge) for one in support])


def _ridge(
    embeddings: Float[Tensor, "s v d"], support: Support, ridge: float
) -> Float[Tensor, "c d"]:
    present = torch.arange(support.members.shape[1]) < support.counts[:, None]
    classes, columns = torch.nonzero(present, as_tuple=True)
    inputs = embeddings[support.members[classes, columns].to(embeddings.device)].flatten(0, 1)
    labels = classes.repeat_interleave(embeddings.shape[1]).to(inputs.device)
    targets = one_hot(labels, len(support.names)).to(inputs.dtype)
    targets = targets - targets.mean(1, keepdim=True)
    gram = inputs.T @ inputs
    gram.diagonal().add_(ridge)
    weights: Tensor = torch.linalg.solve(gram, inputs.T @ targets)
    return weights.T
