"""Scale, origin, and floating-point type in which the distances of vectors can be resolved.

Distances are computed from matrix products, which lose the small distances of vectors that are
long compared with them: far from the origin, very large or small, or nearly identical. Such
vectors are scaled, centered, and compared in float64; if that is not enough, by differences.
"""

from dataclasses import dataclass

from jaxtyping import Float

from oodml.lazy_torch import Tensor, torch

SAFE_SIZE = {4: 1e9, 8: 1e100}  # squares, also of reciprocals, are finite
RESOLVED = {4: 2e-4, 8: 1e-11}
"""The smallest squared distance, relative to the longest squared vector, that products resolve."""
UNRESOLVED = 0.1  # the share of queries whose nearest neighbors may be unresolved
NEIGHBORS = 8  # the neighbor whose distance is estimated; nearer ones may be copies
SAMPLE = 2**25  # numbers that are read to estimate the distances of nearest neighbors
Rows = Float[Tensor, "n d"]
Others = Float[Tensor, "m d"] | None


@dataclass(frozen=True)
class Comparable:
    """Queries and gallery in a form in which their order of distances is resolved.

    `unit`, `exponent`, and `center` are how the vectors were prepared; see `prepare`.
    """

    queries: Float[Tensor, "n d"]
    gallery: Float[Tensor, "m d"] | None  # None if the queries are the gallery
    euclidean: bool  # whether closer means a smaller distance, not a larger dot product
    by_differences: bool = False  # whether distances need differences of vectors
    unit: bool = False
    exponent: int = 0
    center: Float[Tensor, " d"] | None = None

    def prepare(self, rows: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
        """Bring further gallery vectors into the same form: unit length, scale, and origin."""
        rows = rows.to(self.queries)
        rows = _scale(unit_rows(rows) if self.unit else rows, self.exponent)
        return rows if self.center is None else rows - self.center


def comparable(
    queries: Rows, gallery: Others, distance: str, mean: Float[Tensor, " d"] | None = None
) -> Comparable:
    """Prepare vectors as given for ranking; without a gallery, the queries are the gallery.

    `mean` is the float64 mean of the whole gallery if `gallery` is only a part of it.
    """
    if distance == "poincare":
        return _comparable_in_ball(queries, gallery)
    if distance == "euclidean":
        return _comparable_by_distance(queries, gallery, mean, unit=False)
    unit, others = unit_rows(queries), None if gallery is None else unit_rows(gallery)
    if is_resolved(unit, others):
        return Comparable(unit, others, euclidean=False, unit=True)
    # Unit vectors have the same order by distance as by cosine, and distances resolve more.
    others = None if gallery is None else unit_rows(gallery.double())
    return _comparable_by_distance(unit_rows(queries.double()), others, None, unit=True)


def _comparable_by_distance(
    queries: Rows, gallery: Others, mean: Float[Tensor, " d"] | None, unit: bool
) -> Comparable:
    """Scale and center vectors, in float64 where float32 does not resolve their distances."""
    exponent = _safe_exponent(queries, gallery)
    queries, gallery = scale_to_safe_size(queries, gallery)
    if mean is None:
        mean = (queries if gallery is None else gallery).mean(0, dtype=torch.float64)
    else:
        mean = _scale(mean, exponent)
    for dtype in (queries.dtype, torch.float64):
        queries, gallery = queries.to(dtype), None if gallery is None else gallery.to(dtype)
        center = mean.to(dtype)
        centered = queries - center, None if gallery is None else gallery - center
        if is_resolved(*centered, queries, gallery):
            return Comparable(*centered, True, False, unit, exponent, center)
    return Comparable(queries, gallery, True, True, unit, exponent)


def _comparable_in_ball(queries: Rows, gallery: Others) -> Comparable:
    """Prepare points of the unit ball for ranking by hyperbolic distance.

    In the hyperboloid model, points x = (x₀, x⃗) have the distance arccosh(q₀g₀ - q⃗·g⃗). For each
    query it is ordered as -(q⃗/q₀, 1)·(g⃗, -g₀), the negative of a dot product.
    """
    asked, others = queries.double(), (queries if gallery is None else gallery).double()
    doubled = 2 * asked / (1 + asked.square().sum(1, keepdim=True))  # q⃗/q₀
    gap = 1 - others.square().sum(1, keepdim=True)
    stored = torch.cat([2 * others / gap, (gap - 2) / gap], 1)
    return Comparable(torch.cat([doubled, torch.ones_like(doubled[:, :1])], 1), stored, False)


def unit_rows(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Scale rows, none of which is zero, to length 1."""
    norms = rows.norm(dim=1, keepdim=True)
    if not ((norms > 1e-15) & (norms < 1e15)).all():  # outside, squares may under- or overflow
        rows = rows / rows.abs().amax(1, keepdim=True)
        norms = rows.norm(dim=1, keepdim=True)
    return torch.div(rows, norms)


def resolved_unit_rows(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Scale rows to length 1, in float64 if float32 does not resolve their distances."""
    unit = unit_rows(rows)
    return unit if is_resolved(unit, None) else unit_rows(rows.double())


def resolved_points(rows: Float[Tensor, "n d"], euclidean: bool) -> Float[Tensor, "n d"]:
    """Points for an algorithm that computes in float32; scaling and centering keep their order."""
    points = rows if euclidean else resolved_unit_rows(rows)
    safe = SAFE_SIZE[4]
    points, _ = scale_to_safe_size(points, None, safe)
    if not is_resolved(points.float(), None, points):
        points = points.double()
        points, _ = scale_to_safe_size(points - points.mean(0), None, safe)
    return points.float()


def is_resolved(
    queries: Rows, gallery: Others, exact: Rows | None = None, exact_gallery: Others = None
) -> bool:
    """Whether matrix products in the vectors' type resolve the distances of near neighbors.

    The distances of some queries to their nearest neighbors are estimated, first with products,
    then from differences of the vectors before centering, `exact`, without copies of a query.
    """
    others = queries if gallery is None else gallery
    n_sampled = min(max(8, min(64, SAMPLE // others.numel())), len(queries))
    sample = torch.linspace(0, len(queries) - 1, n_sampled).long().to(queries.device)
    rows = queries[sample]
    squares = others.norm(dim=1).square()
    limit = RESOLVED[queries.itemsize] * float(squares.max())
    distances = squares + rows.square().sum(1, keepdim=True) - 2 * rows @ others.T
    rank = min(NEIGHBORS + 1, len(others))
    unresolved = (distances <= limit).sum(1) >= rank  # as for the distance of this rank
    if float(unresolved.double().mean()) <= UNRESOLVED:
        return True
    exact = queries if exact is None else exact
    exact_others = exact if gallery is None else exact_gallery
    smallest = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=rows.device)
    for part in torch.split(others if exact_others is None else exact_others, 4096):
        distances = difference_distances(exact[sample].double(), part.double()).square()
        distances[distances == 0] = torch.inf
        smallest = torch.minimum(smallest, distances.amin(1))
    return float((smallest <= limit).double().mean()) <= UNRESOLVED


def difference_distances(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Euclidean distances from differences of vectors: exact, and slower than a product."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def scale_to_safe_size(queries: Rows, gallery: Others, safe: float = 0) -> tuple[Rows, Others]:
    """Multiply both by a power of two if their squares could over- or underflow."""
    exponent = _safe_exponent(queries, gallery, safe)
    return _scale(queries, exponent), None if gallery is None else _scale(gallery, exponent)


def _safe_exponent(queries: Rows, gallery: Others, safe: float = 0) -> int:
    sizes = [float(rows.abs().max()) for rows in (queries, gallery) if rows is not None]
    largest, safe = max(sizes), safe or SAFE_SIZE[queries.itemsize]
    if largest == 0 or 1 / safe < largest < safe:
        return 0
    return -int(torch.frexp(torch.tensor(largest, dtype=torch.float64)).exponent)


def _scale(rows: Float[Tensor, "*n d"], exponent: int) -> Float[Tensor, "*n d"]:
    if exponent == 0:
        return rows
    half = torch.tensor(exponent // 2)  # in two steps, since 2**exponent may overflow
    rest = torch.tensor(exponent - exponent // 2)
    return torch.ldexp(torch.ldexp(rows, half.to(rows.device)), rest.to(rows.device))
