"""Metrics of retrieval that are computed only under a protocol: nDCG, mINP, and mAP variants."""

import torch

from oodml.evaluate.metric_family import MetricFamily
from oodml.evaluate.retrieval import RankedPositives, Score

JUDGED: MetricFamily[RankedPositives, Score] = MetricFamily("retrieval")
"""Metrics of retrieval that are computed only under a protocol."""


@JUDGED.define("ndcg@k", "nDCG@k")
def ndcg_at_k(positives: RankedPositives, k: int) -> Score:
    """Relevance / log₂(1 + rank) up to rank k, relative to its largest possible sum."""
    return _gain(positives, k) / _ideal_gain(positives, k)


@JUDGED.define("ndcg", "nDCG")
def ndcg(positives: RankedPositives) -> Score:
    """nDCG over all ranks, with linear gains as in trec_eval (Järvelin and Kekäläinen, 2002)."""
    return _gain(positives, torch.inf) / _ideal_gain(positives, torch.inf)


@JUDGED.define("map@k", "mAP@k")
def map_at_k(positives: RankedPositives, k: int) -> Score:
    """The precisions at ranks up to k, summed and divided by min(R, k)."""
    return positives.precision_sum(k) / positives.counts.clamp(max=k)


@JUDGED.define("map_trapezoid", "mAP (area)")
def map_trapezoid(positives: RankedPositives) -> Score:
    """The area under precision and recall by trapezoids, as in the code of Market-1501."""
    slots = torch.arange(positives.ranks.shape[1], device=positives.ranks.device)
    before = torch.where(positives.ranks > 1, slots / (positives.ranks - 1), 1.0)
    area = (before + positives.precision) / 2 * positives.valid
    return area.sum(1) / positives.counts


@JUDGED.define("minp", "mINP")
def inverse_negative_penalty(positives: RankedPositives) -> Score:
    """The number of matches divided by the rank of the last (Ye et al., TPAMI 2021, eq. 3)."""
    last = positives.ranks.gather(1, positives.counts.long()[:, None] - 1)[:, 0]
    return positives.counts / last


def _gain(positives: RankedPositives, k: float) -> Score:
    within = positives.ranks <= k
    return (positives.gains * within / torch.log2(1 + positives.ranks)).sum(1)


def _ideal_gain(positives: RankedPositives, k: float) -> Score:
    ideal = positives.gains.sort(1, descending=True).values
    ranks = torch.arange(1, ideal.shape[1] + 1, device=ideal.device, dtype=torch.float64)
    return (ideal * (ranks <= k) / torch.log2(1 + ranks)).sum(1)
