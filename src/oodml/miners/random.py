"""Random mining."""

from oodml.miners._base import PairMiner, Pairs, Partners, draw_from
from oodml.shapes import Uniform, Vectors


class Miner(PairMiner):
    """One triplet per anchor: a random other row of its class and a random row of another class."""

    def partners(self, rows: Vectors, same: Pairs, other: Pairs, uniform: Uniform) -> Partners:
        return draw_from(same, uniform[0]), draw_from(other, uniform[1])
