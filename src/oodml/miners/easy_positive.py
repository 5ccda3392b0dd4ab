"""Easy-positive mining (Xuan et al. 2020, arXiv 1904.04370)."""

import torch

from oodml.miners._base import PairMiner, Pairs, Partners, distances, draw_from
from oodml.shapes import Uniform, Vectors


class Miner(PairMiner):
    """One triplet per anchor: the nearest positive and a random negative."""

    def partners(self, rows: Vectors, same: Pairs, other: Pairs, uniform: Uniform) -> Partners:
        nearest = distances(rows).masked_fill(~same, torch.inf).argmin(1)
        return nearest, draw_from(other, uniform[0])
