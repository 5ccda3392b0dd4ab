"""Near-duplicates: images that are almost equal, and what they do to recall.

Images are compared by a 64-bit perceptual hash, and candidates by the correlation of their
thumbnails in color (1 kB per image). The search is exact for hashes that differ in at most seven
bits. It needs about n²/2000 comparisons of hashes if these are evenly distributed, in blocks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt8, UInt64
from numpy.typing import NDArray
from PIL import Image

from oodml.errors import invalid
from oodml.evaluate.inputs import as_vectors
from oodml.evaluate.precision import resolved_unit_rows
from oodml.evaluate.retrieval import retrieval_metrics
from oodml.images.fingerprint import decode_files
from oodml.images.image_set import ImageSet
from oodml.shift.columns import connect
from oodml.shift.splits import Split
from oodml.vectors import VectorSet

SIDE, LOW = 32, 8
"""Pixels per side of the image that is hashed, and frequencies per axis in the hash."""
BITS = 7
CORRELATION = SIMILARITY = 0.99
BLOCK = 4096  # hashes that are searched at a time


def perceptual_hash(image: Image.Image) -> tuple[int, NDArray[np.uint8]]:
    """The hash of an image, and its thumbnail [1152]: gray, and color in lower resolution.

    A bit is set if one of the 64 lowest frequencies of the cosine transform of 32×32 gray pixels,
    the mean excepted, is above their median (Zauner 2010).
    """
    from scipy.fft import dctn

    small = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    waves = dctn(np.asarray(small.convert("L"), dtype=np.float64), norm="ortho")
    waves = waves[:LOW, :LOW].ravel()
    waves[0] = np.median(waves[1:])
    bits = waves > waves[0] + 1e-6
    parts = small.convert("YCbCr").split()
    gray, *colors = (one if i == 0 else one.reduce(SIDE // LOW) for i, one in enumerate(parts))
    pixels = np.concatenate([np.asarray(one).ravel() for one in (gray, *colors)])
    return int.from_bytes(np.packbits(bits).tobytes(), "big"), pixels


def near_duplicates(
    images: ImageSet, correlation: float = CORRELATION, advance: Callable[[], Any] = lambda: None
) -> Int[np.ndarray, " n"]:
    """[n] the groups of images that are linked by near-equal pairs, -1 for images without one.

    `correlation` is the least one of the thumbnails of a pair; `advance` is called after each image
    is decoded. Images that cannot be read are left out.
    """
    decoded, groups = [], np.full(len(images), -1)
    for row, file in enumerate(decode_files(images, np.arange(len(images)), perceptual_hash)):
        if file.value is not None:
            decoded.append((row, *file.value))
        advance()
    if not decoded:
        return groups
    rows, hashes, thumbnails = zip(*decoded, strict=True)
    pixels, pairs = np.stack(thumbnails), []
    for part in close_hashes(np.array(hashes, dtype=np.uint64)):
        for few in np.array_split(part, 1 + len(part) // 2**12):
            pairs.append(few[correlations(pixels[few[:, 0]], pixels[few[:, 1]]) >= correlation])
    groups[list(rows)] = _components(pairs, len(rows))
    return groups


def correlations(a: UInt8[np.ndarray, "p d"], b: UInt8[np.ndarray, "p d"]) -> NDArray[np.float64]:
    """[p] the correlation of thumbnails as `perceptual_hash` returns them; 1 if both are plain."""
    centered = []
    for thumbnails in (a, b):
        rows = thumbnails.astype(np.float64)
        rows[:, : SIDE**2] -= rows[:, : SIDE**2].mean(1, keepdims=True)
        rows[:, SIDE**2 :] = (rows[:, SIDE**2 :] - 128) * (SIDE / LOW)
        centered.append(rows)
    norms = [np.linalg.norm(rows, axis=1) for rows in centered]
    products = np.einsum("pd,pd->p", *centered)
    plain = (norms[0] == 0) & (norms[1] == 0)
    return np.where(plain, 1.0, products / np.maximum(norms[0] * norms[1], 1e-9))


def close_hashes(hashes: UInt64[np.ndarray, " n"]) -> Iterator[NDArray[np.int64]]:
    """The pairs of hashes that differ in at most seven bits, in blocks [p 2].

    Of four parts of 16 bits, one differs in at most one bit. Of equal hashes, each is paired with
    the first one only.
    """
    import faiss

    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    repeats = np.flatnonzero(first[inverse] != np.arange(len(hashes)))
    yield np.stack([first[inverse[repeats]], repeats], axis=1)
    rows = unique.view(np.uint8).reshape(-1, 8)
    index = faiss.IndexBinaryMultiHash(64, 4, 16)
    index.nflip = 1
    for begin in range(0, len(rows), BLOCK):  # a block searches those before it, and itself
        block = rows[begin : begin + BLOCK]
        index.add(block)
        limits, _, others = index.range_search(block, BITS + 1)
        near = begin + np.repeat(np.arange(len(block)), np.diff(limits).astype(np.int64))
        chosen = others < near
        yield first[np.stack([others[chosen], near[chosen]], axis=1)]


def similar_groups(
    vectors: Float[np.ndarray, "n d"], similarity: float = SIMILARITY
) -> Int[np.ndarray, " n"]:
    """[n] the groups of vectors that are linked by pairs of at least this cosine, -1 for none.

    All pairs are compared, in blocks: n²/2 products, n·512 similarities in memory.
    """
    if not 0 < similarity <= 1:
        raise invalid("similarity", similarity, "it must be above 0 and at most 1")
    unit = resolved_unit_rows(as_vectors(vectors, "cosine")).numpy()
    pairs = []
    for start in range(0, len(unit), 512):
        near = np.argwhere(unit[start : start + 512] @ unit[start:].T >= similarity) + start
        pairs.append(near[near[:, 0] < near[:, 1]])
    return _components(pairs, len(unit))


def _components(pairs: Sequence[NDArray[np.int64]], n: int) -> Int[np.ndarray, " n"]:
    labels = connect(np.concatenate([np.empty((0, 2), np.int64), *pairs]), n)
    return np.where(np.bincount(labels, minlength=n)[labels] > 1, labels, -1)


def recall_without(
    vectors: VectorSet, groups: Int[np.ndarray, " n"], leaked: NDArray[np.bool_]
) -> tuple[float, float]:
    """Recall@1 of vectors with all images, and without near-duplicates.

    Of the rows that are not `leaked` [n], the first of each group [n] (-1: none) stays.
    """
    rows = np.flatnonzero(~leaked)
    alone = groups[rows] < 0
    firsts = np.unique(groups[rows][~alone], return_index=True)[1]
    rest = vectors.select(np.sort(np.concatenate([rows[alone], rows[~alone][firsts]])))
    both = (retrieval_metrics(one.vectors, one.classes, ks=(1,)) for one in (vectors, rest))
    full, without = (float(metrics["recall@1"]) for metrics in both)
    return full, without


@dataclass(frozen=True)
class Leakage:
    """Near-duplicates of a dataset, and what they do."""

    within: tuple[tuple[str, ...], ...]  # the ids of the groups in one class
    across: tuple[tuple[str, ...], ...]  # and of those in several
    splits: tuple[dict[str, Any], ...] = ()
    """For each `split`: test images with a near-duplicate in training (`leaked`), and `test`."""
    recalls: tuple[dict[str, Any], ...] = ()
    """For each `split` and `vectors`: `recall` (Recall@1 with all images), and `without` (without
    leaked images and with one image per group)."""


def measure_leakage(
    images: ImageSet,
    groups: Int[np.ndarray, " n"],
    splits: Iterable[Split] = (),
    vectors: Iterable[tuple[str, str, VectorSet]] = (),
) -> Leakage:
    """Count near-duplicates within and across classes and splits, and measure Recall@1 without.

    `groups` [n] are those of the images, -1 for none. `vectors` are the step of the split ("" for
    all images), a name, and the vectors.
    """
    within: list[tuple[str, ...]] = []
    across: list[tuple[str, ...]] = []
    order = np.argsort(groups, kind="stable")[(groups < 0).sum() :]
    for rows in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(order) else ():
        one_class = len(set(images.labels[rows].tolist())) == 1
        (within if one_class else across).append(tuple(images.ids[rows].tolist()))
    leaked, counts, recalls = {"": np.zeros(len(images), dtype=bool)}, [], []
    for split in splits:  # leaked: test images with a near-duplicate among the train images
        train, test = (np.isin(images.classes, side) for side in (split.train, split.test))
        mask = test & np.isin(groups, groups[train & (groups >= 0)])
        leaked[str(split.step)] = mask
        n_leaked, n_test = int(mask.sum()), int(test.sum())
        counts.append({"split": str(split.step), "leaked": n_leaked, "test": n_test})
    for step, name, one in vectors:
        rows = pd.Index(images.ids).get_indexer(pd.Index(one.ids))
        full, without = recall_without(one, groups[rows], leaked[step][rows])
        recalls.append({"split": step, "vectors": name, "recall": full, "without": without})
    return Leakage(tuple(within), tuple(across), tuple(counts), tuple(recalls))
