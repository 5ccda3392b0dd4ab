"""Easy-positive mining (Xuan et al. 2020, arXiv 1904.04370)."""

import torch

from oodml.miners._base import PairMiner, Pairs, Partners, distances, draw_from
from oodml.shapes import Uniform, Vectors


class Miner(PairMiner):
    """One triplet per anchor: the nearest positive and a random negative."""

    def partners(
        self, embeddings: Vectors, positives: Pairs, negatives: Pairs, uniform: Uniform
    ) -> Partners:
        nearest = distances(embeddings).masked_fill(~positives, torch.inf).argmin(1)
        return nearest, draw_from(negatives, uniform[0])
