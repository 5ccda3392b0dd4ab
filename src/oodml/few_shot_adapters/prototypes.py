"""Prototypes: center the embedding at the mean of the support classes (SimpleShot, CL2N).

Wang et al., 2019. The embedding keeps its dimension. A query's class is that of the most similar
class mean (Snell et al., 2017), which is what the metric "accuracy" measures.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from oodml.adaptation.heads import Heads
from oodml.adaptation.support import Support, class_means
from oodml.few_shot_adapters._base import ClosedFormAdapter, Features


class Adapter(ClosedFormAdapter):
    """Subtract the mean of the class means before normalization, which the bias of a head can."""

    def heads(self, head: Heads, features: Features, support: Sequence[Support]) -> Heads:
        """The head of each episode."""
        outputs = head.linear(features[None])[0]
        centers = torch.stack([class_means(outputs, one).mean(0) for one in support])
        bias = 0 if head.bias is None else head.bias
        return replace(head.repeated(len(support)), bias=bias - centers)
