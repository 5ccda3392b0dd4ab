"""Scores of ridge regression on the support classes as the embedding (Bertinetto et al., 2019)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot, pad

from oodml.adaptation.heads import Heads
from oodml.adaptation.support import Support
from oodml.errors import OodmlError
from oodml.few_shot_adapters._base import ClosedFormAdapter, Features


class Adapter(ClosedFormAdapter):
    """The embedding has one dimension per support class; uses `ridge` of the settings."""

    scores_classes = True

    def heads(self, head: Heads, features: Features, support: Sequence[Support]) -> Heads:
        """The head of each episode: scores are normalized, so that one linear layer suffices."""
        if len(head.part_weights) > 1:
            problem = (
                f'objective "linear" requires a head with one part; this one has '
                f"{len(head.part_weights)}, which are normalized separately. Use another objective"
            )
            raise OodmlError(problem, "adapt.objective", "linear")
        embeddings = head.embed(features[None])[0]
        layers = [_ridge(embeddings, one, self.settings.ridge) for one in support]
        most = max(len(rows) for rows in layers)
        # Episodes with fewer classes get outputs that are always zero.
        stacked = torch.stack([pad(rows, (0, 0, 0, most - len(rows))) for rows in layers])
        bias = None if head.bias is None else stacked @ head.bias[0]
        return Heads(stacked @ head.weight, bias)


def _ridge(embeddings: Float[Tensor, "s d"], support: Support, ridge: float) -> Tensor:
    present = torch.arange(support.members.shape[1]) < support.counts[:, None]
    classes, columns = torch.nonzero(present, as_tuple=True)
    inputs = embeddings[support.members[classes, columns].to(embeddings.device)]
    targets = one_hot(classes.to(inputs.device), len(support.names)).to(inputs.dtype)
    targets = targets - targets.mean(1, keepdim=True)
    gram = inputs.T @ inputs
    gram.diagonal().add_(ridge)
    weights: Tensor = torch.linalg.solve(gram, inputs.T @ targets)
    return weights.T
