"""Triplets across three classes, both partners drawn by distance (Milbich et al. 2020)."""

from oodml.miners import shared_neg_distance
from oodml.miners._base import Pairs, draw
from oodml.miners.distance import negative_probabilities
from oodml.shapes import Rows, Uniform, Vectors


class Miner(shared_neg_distance.Miner):
    """One triplet per anchor: rows of two other classes, drawn by distance (at least `lowest`)."""

    def second(self, rows: Vectors, unlike: Pairs, uniform: Uniform) -> Rows:
        return draw(negative_probabilities(rows, unlike, self.lowest), uniform[0])
