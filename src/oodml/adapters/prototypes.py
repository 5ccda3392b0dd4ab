"""Prototypes: embed by the similarity to the mean of each support class (Snell et al., 2017)."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from oodml.adaptation.heads import Heads
from oodml.adaptation.support import Support, class_means
from oodml.adapters._base import ClosedFormAdapter, embed_views, project


class Adapter(ClosedFormAdapter):
    """Class means are scaled to unit length and centered, to remove what all classes share."""

    scores_classes = True

    def heads(
        self, head: Heads, views: Float[Tensor, "s v f"], support: Sequence[Support]
    ) -> Heads:
        """The head of each episode."""
        embeddings = embed_views(head, views)
        means = [normalize(class_means(embeddings, one), dim=1) for one in support]
        return project(head, [rows - rows.mean(0) for rows in means])
