"""Cheaper vectors: fewer dimensions, lower precision, and product quantization.

What a code needs (axes, ranges, means, codebooks) is fitted on other classes than those that are
evaluated. Queries keep full precision unless the code is binary: the gallery is what costs memory.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from oodml.decisions.open_set import check_flat
from oodml.errors import OodmlError, error_at, unknown
from oodml.evaluate.compare import compare_values
from oodml.evaluate.inputs import as_vectors, check_seed
from oodml.evaluate.precision import resolved_unit_rows
from oodml.evaluate.protocol import RetrievalProtocol
from oodml.evaluate.query_lists import own_images, searched_rows
from oodml.evaluate.retrieval import query_metrics
from oodml.progress import track
from oodml.vectors import VectorSet

PRECISIONS = ("float16", "int8", "binary")
MIN_FIT = 256  # the smallest number of vectors that a product quantizer is fitted on
MIN_QUERIES = 300  # rule of three: a loss that none of n queries shows may be 3/n, here a point
MIN_CLASSES = 10  # with fewer, a bootstrap interval is over a fifth too narrow (normal losses)
Values = dict[str, NDArray[np.float64]]
Encode = Callable[
    [Float[Tensor, "n d"], Float[Tensor, "m d"]], tuple[Float[Tensor, "n e"], Float[Tensor, "n e"]]
]


@dataclass(frozen=True)
class Code:
    """A way to store vectors."""

    name: str
    size: float  # bytes per vector in memory
    encode: Encode  # from vectors and those to fit on, the vectors as queries and as decoded
    rescore: int = 0
    """If above 0, how many times as many neighbors are searched with the code and then sorted by
    the int8 vectors, which can stay on disk."""
    disk: int = 0  # further bytes per vector, on disk


def compress(
    vectors: VectorSet,
    fit: VectorSet | None = None,
    *,
    dims: Sequence[int] = (),
    reduce: str = "truncate",
    precision: Sequence[str] = PRECISIONS,
    pq: Sequence[int] = (),
    opq: Sequence[int] = (),
    rescore: int = 0,
    ks: Sequence[int] = (1, 8),
    distance: str = "cosine",
    seed: int = 0,
    resamples: int = 2000,
) -> pd.DataFrame:
    """Evaluate codes of vectors against the full vectors, on the same queries.

    Args:
        vectors: the vectors [n d] that are evaluated; each image searches all others.
        fit: vectors of other classes to fit codes on. By default, half of the classes are fitted
            on, and the other half is evaluated.
        dims, reduce: numbers of dimensions; "truncate" (Matryoshka) or "pca", the principal axes of
            `fit` without centering, which preserve dot products best.
        precision: "float16"; "int8" with the range of each dimension in `fit`; "binary", the signs
            after subtracting the mean of `fit`, compared by Hamming distance.
        pq, opq: bytes per vector of product quantization, without and with a rotation.
        rescore: also evaluate binary codes with this many times as many neighbors, sorted by
            their int8 vectors.
        ks, distance: cut-offs of recall; "cosine", or "euclidean" on the vectors as given.

    Returns:
        One row per code, the full vectors first: `code`, `bytes` in memory, further bytes on
        `disk`, the numbers of evaluated `queries` and `classes`, and for every metric its value,
        the loss against the full vectors (METRIC_loss), and the 95% interval of the loss from
        resampling classes (METRIC_low, METRIC_high). The code with the least memory whose interval
        of the first recall is below a point is `recommended`; none is with fewer than `MIN_QUERIES`
        or `MIN_CLASSES`.
    """
    check_seed(seed)
    if fit is None:
        fit, vectors = _halves(vectors, seed)
    rows, others = (flat_rows(part, distance) for part in (vectors, fit))
    width, size = rows.shape[1], rows.element_size()
    if width != others.shape[1]:
        problem = f"the vectors to fit on have {others.shape[1]} dimensions, the others {width}"
        raise OodmlError(problem, location="fit", given=others.shape[1])
    chosen = [Code(f"float{8 * size}", width * size, lambda a, b: (a, a))]
    chosen += [reduced_code(n, reduce, width, size) for n in dims]
    chosen += [precision_code(name, width) for name in precision]
    chosen += [rescored_code(rescore, width)] * bool(rescore)
    chosen += [quantized_code(n, False, width) for n in pq]
    chosen += [quantized_code(n, True, width) for n in opq]
    sides, full, table = searched_rows(vectors), Values(), []
    labels = vectors.labels[sides[0]]
    for code in track(chosen, "Codes", len(chosen), "codes"):
        values = code_metrics(code, rows, others, vectors.labels, ks, distance, seed, sides)
        full = full or values
        table.append(_code_row(code, full, values, labels, seed, resamples))
    return _recommend(pd.DataFrame(table), f"recall@{ks[0]}_high")


def _code_row(
    code: Code, full: Values, values: Values, labels: NDArray[np.int64], seed: int, resamples: int
) -> dict[str, object]:
    """The losses of a code against the full vectors."""
    scored = labels[~np.isnan(full["map@r"])]
    row: dict[str, object] = {"code": code.name, "bytes": code.size, "disk": code.disk}
    row |= {"queries": len(scored), "classes": len(np.unique(scored))}
    for metric in full:
        one = compare_values(metric, full[metric], values[metric], labels, seed, resamples)
        row |= {metric: one.b, f"{metric}_loss": one.difference}
        row |= {f"{metric}_low": one.low, f"{metric}_high": one.high}
    return row


def _recommend(table: pd.DataFrame, loss: str) -> pd.DataFrame:
    """Add the column `recommended`."""
    enough = (table["queries"] >= MIN_QUERIES) & (table["classes"] >= MIN_CLASSES)
    good = table[enough & (table[loss] < 0.01) & (table.index > 0)]
    best = good.sort_values(["bytes", "disk"]).index[:1]
    return table.assign(recommended=table.index.isin(best))


def _halves(vectors: VectorSet, seed: int) -> tuple[VectorSet, VectorSet]:
    """The vectors of two halves of the classes, at random."""
    names = np.random.default_rng(seed).permutation(np.array(vectors.class_names))
    if len(names) < 2:
        raise OodmlError("codes are fitted on other classes; give two", given=len(names))
    half = len(names) // 2
    return vectors.subset(names[:half]), vectors.subset(names[half:])


def flat_rows(vectors: VectorSet, distance: str) -> Float[Tensor, "n d"]:
    """Unit vectors for the cosine, or the vectors as given."""
    check_flat(distance)
    rows = as_vectors(vectors.vectors, distance)
    return resolved_unit_rows(rows) if distance == "cosine" else rows


def code_metrics(
    code: Code,
    rows: Float[Tensor, "n d"],
    fit: Float[Tensor, "m d"],
    labels: Int[np.ndarray, " n"],
    ks: Sequence[int] = (1,),
    distance: str = "cosine",
    seed: int = 0,
    sides: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
) -> Values:
    """Recall@k and mAP@R of every query, where the gallery is stored with a code.

    `sides` are the rows of the queries and of the gallery; by default, both are all rows.
    """
    asked, searched = (np.arange(len(rows)), np.arange(len(rows))) if sides is None else sides
    groups, own = (labels[asked], labels[searched]), own_images(asked, searched)
    first, second = torch.from_numpy(asked), torch.from_numpy(searched)
    queries, decoded = code.encode(rows, fit)
    names = [*(f"recall@{k}" for k in ks), "map@r"]
    if code.rescore:
        vectors = rows[first], queries[first], decoded[second], _int8(rows, fit)[1][second]
        table = _rescored(vectors, groups, own, ks, code.rescore, distance, seed)
        return dict(zip(names, table.T, strict=True))
    queries, decoded = (as_vectors(part, distance, code.name) for part in (queries, decoded))
    protocol = RetrievalProtocol(queries[first], groups[0], decoded[second], groups[1], own)
    values = query_metrics(protocol, tuple(ks), distance, torch.Generator().manual_seed(seed))
    return {name: values[name] for name in names}


def _rescored(
    vectors: tuple[Tensor, Tensor, Tensor, Tensor],
    labels: tuple[NDArray[np.int64], NDArray[np.int64]],
    own: tuple[NDArray[np.int64], NDArray[np.int64]],
    ks: Sequence[int],
    rescore: int,
    distance: str,
    seed: int,
) -> Float[np.ndarray, "q m"]:
    """Metrics where the nearest codes are sorted by their decoded vectors; ties are random.

    `vectors` are the queries, their codes, and the gallery's codes and decoded vectors.
    """
    queries, asked, codes, exact = vectors
    groups, others = (torch.from_numpy(side) for side in labels)
    itself = torch.full((len(queries),), -1)
    itself[torch.from_numpy(own[0])] = torch.from_numpy(own[1])
    counted = torch.bincount(others, minlength=int(groups.max()) + 1)[groups]
    positives = counted - (itself >= 0).long()
    width = min(len(codes) - 1, rescore * max(*ks, int(positives.max())))
    ties = torch.rand(len(codes), generator=torch.Generator().manual_seed(seed))
    size = max(1, min(512, 2**24 // (width * codes.shape[1]), 2**26 // len(codes)))
    slots, values = torch.arange(1, width + 1), []
    for begin in range(0, len(queries), size):
        block = slice(begin, begin + size)
        similarities = (asked[block] @ codes.T).add_(ties)  # codes differ by whole numbers
        listed = torch.nonzero(itself[block] >= 0)[:, 0]
        similarities[listed, itself[block][listed]] = -torch.inf
        nearest = similarities.topk(width, dim=1).indices
        candidates = exact[nearest]
        if distance == "euclidean":
            scores = -(candidates - queries[block, None]).norm(dim=2)
        else:
            scores = (candidates @ queries[block, :, None])[:, :, 0] / candidates.norm(dim=2)
        order = nearest.gather(1, scores.argsort(1, descending=True))
        hits = others[order] == groups[block, None]
        counts = positives[block, None]
        precision = hits.cumsum(1) / slots * hits * (slots <= counts)
        columns = [hits[:, :k].any(1).double() for k in ks]
        columns.append(precision.sum(1).double() / counts[:, 0].clamp(min=1))
        part = torch.stack(columns, 1)
        part[counts[:, 0] == 0] = torch.nan
        values.append(part.numpy())
    return np.concatenate(values)


def reduced_code(n: int, reduce: str, width: int, size: int) -> Code:
    """The first dimensions, or those of the principal axes."""
    if reduce not in ("truncate", "pca"):
        raise unknown("reduction", reduce, ("truncate", "pca"))
    if not 0 < n <= width:
        raise error_at("dims", f"{n}; the vectors have {width}", n)

    def encode(rows: Tensor, fit: Tensor) -> tuple[Tensor, Tensor]:
        if reduce == "truncate":
            part = rows[:, :n].contiguous()
        else:
            gram = fit.T.double() @ fit.double()
            axes = torch.linalg.svd(gram)[0]  # eigh fails to converge with few rows
            part = rows @ axes.to(rows.dtype)[:, :n]
        return part, part

    name = f"{n} dimensions" if reduce == "truncate" else f"{n} dimensions (PCA)"
    return Code(name, n * size, encode)


def precision_code(name: str, width: int) -> Code:
    """A code of `PRECISIONS`."""
    codes = {
        "float16": Code(name, 2 * width, lambda rows, fit: (rows, rows.half().to(rows.dtype))),
        "int8": Code(name, width, _int8),
        "binary": Code(name, math.ceil(width / 8), _binary),
    }
    if name not in codes:
        raise unknown("precision", name, PRECISIONS)
    return codes[name]


def rescored_code(rescore: int, width: int) -> Code:
    """The binary code, whose neighbors are sorted by their int8 vectors."""
    return Code(f"binary, rescored {rescore}x", math.ceil(width / 8), _binary, rescore, width)


def _int8(rows: Tensor, fit: Tensor) -> tuple[Tensor, Tensor]:
    low, high = fit.amin(0), fit.amax(0)
    step = ((high - low) / 255).clamp(min=1e-12)
    return rows, ((rows - low) / step).round_().clamp_(0, 255).mul_(step).add_(low)


def _binary(rows: Tensor, fit: Tensor) -> tuple[Tensor, Tensor]:
    codes = torch.where(rows > fit.mean(0), 1.0, -1.0).to(torch.float32)
    return codes, codes


def quantized_code(n: int, rotate: bool, width: int) -> Code:
    """Product quantization with n bytes per vector."""
    name = f"{'OPQ' if rotate else 'PQ'} {n}"
    if n < 1 or width % n:
        divisors = [str(m) for m in range(1, width + 1) if width % m == 0]
        problem = f"{name}: {width} dimensions cannot be divided into {n} parts"
        raise OodmlError(problem, "pq", n, divisors)

    def encode(rows: Tensor, fit: Tensor) -> tuple[Tensor, Tensor]:
        import faiss

        if len(fit) < MIN_FIT:
            problem = f"{name}: needs at least {MIN_FIT} vectors to fit on; given {len(fit)}"
            raise OodmlError(problem, "fit", len(fit))
        index: Any = faiss.IndexPQ(width, n, 8)
        index.pq.cp.min_points_per_centroid = 1
        if rotate:
            rotation = faiss.OPQMatrix(width, n)
            rotation.pq = index.pq
            index = faiss.IndexPreTransform(rotation, index)
        index.train(np.ascontiguousarray(fit.float().numpy()))
        codes = index.sa_encode(np.ascontiguousarray(rows.float().numpy()))
        return rows, torch.from_numpy(index.sa_decode(codes)).to(rows.dtype)

    return Code(name, n, encode)
