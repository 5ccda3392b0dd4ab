"""The protocols of benchmarks: what is ignored, what is a match, and what their papers print."""

from collections.abc import Mapping
from dataclasses import dataclass

from oodml.errors import unknown
from oodml.evaluate.judgments import Rules


@dataclass(frozen=True)
class NamedProtocol:
    """How a benchmark is evaluated.

    Attributes:
        rules: what is ignored and what is a match.
        metrics: what the paper prints.
        needs_lists: whether queries and gallery are separate.
        source: the paper and what to know about its numbers.
    """

    rules: Rules
    metrics: tuple[str, ...]
    needs_lists: bool
    source: str


_CAMERA = Rules(exclude=("camera",))
_CMC = ("map", "recall@1", "recall@5", "recall@10")
PROTOCOLS: Mapping[str, NamedProtocol] = {
    "market1501": NamedProtocol(
        Rules(("camera",), junk_classes=("-1",), distractor_classes=("0", "0000")),
        (*_CMC, "recall@20", "minp", "map_trapezoid"),
        True,
        "Market-1501 (Zheng et al., ICCV 2015): class -1 is junk, class 0 are distractors, and "
        "images of the same person and camera are ignored. recall@k is the CMC at rank k; the "
        "paper's code computes map_trapezoid, later papers map.",
    ),
    "veri": NamedProtocol(
        _CAMERA,
        (*_CMC[:3], "minp"),
        True,
        "VeRi-776 (Liu et al., ECCV 2016): images of the same vehicle and camera are ignored. "
        "Images are ranked, as in later papers; the paper ranks tracks.",
    ),
    "msmt17": NamedProtocol(
        _CAMERA,
        (*_CMC, "recall@20"),
        True,
        "MSMT17 (Wei et al., CVPR 2018): images of the same person and camera are ignored.",
    ),
    "sop": NamedProtocol(
        Rules(),
        ("recall@1", "recall@10", "recall@100", "recall@1000"),
        False,
        "Stanford Online Products (Song et al., CVPR 2016): every test image searches the others.",
    ),
    "inshop": NamedProtocol(
        Rules(),
        ("recall@1", "recall@10", "recall@20", "recall@30", "recall@40", "recall@50"),
        True,
        "In-shop Clothes Retrieval (Liu et al., CVPR 2016): lists of queries and gallery.",
    ),
    "inaturalist": NamedProtocol(
        Rules(),
        ("recall@1", "recall@4", "recall@16", "recall@32"),
        False,
        "iNaturalist 2018 (Brown et al., Smooth-AP, ECCV 2020): every test image searches the "
        "others.",
    ),
    "gldv2": NamedProtocol(
        Rules(shared_label=True),
        ("map@100",),
        True,
        "Google Landmarks v2 retrieval (Weyand et al., CVPR 2020): an index image matches if it "
        "shares a landmark with the query; mAP@100 divides by min(matches, 100).",
    ),
    "wildlife": NamedProtocol(
        Rules(),
        ("recall@1", "recall@5"),
        True,
        "WildlifeDatasets (Čermák et al., WACV 2024): recall@1 is the accuracy of the nearest "
        "neighbor. Exclude images of one encounter with `--exclude same:time`.",
    ),
}


def find_protocol(name: str) -> NamedProtocol:
    """The protocol of a benchmark; refuses an unknown name."""
    if name not in PROTOCOLS:
        raise unknown("protocol", name, PROTOCOLS, "protocol")
    return PROTOCOLS[name]
