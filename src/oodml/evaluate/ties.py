"""Random ranks for tied images, so that the order of a file never affects a metric."""

from jaxtyping import Bool, Float, Int

from oodml.lazy_torch import Tensor, torch


def ranks_within_ties(
    above: Int[Tensor, "b p"],
    level: Int[Tensor, "b p"],
    scores: Float[Tensor, "b p"],
    valid: Bool[Tensor, "b p"],
    generator: "torch.Generator",
) -> Int[Tensor, "b p"]:
    """Draw the ranks from 1, in ascending order, of positives that tie with other images.

    `above` counts the gallery images strictly closer than the positive, `level` those at exactly
    its distance, itself included; the `scores` of the positives descend, `valid` ones first. The
    order of tied images is independent for each row.
    """
    ranks = above + 1
    tied = valid & (level > 1)
    if not tied.any():
        return ranks
    starts = tied.clone()
    starts[:, 1:] &= scores[:, 1:] != scores[:, :-1]
    group = starts.flatten().cumsum(0)[tied.flatten()] - 1
    sizes = torch.bincount(group)
    first = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    within = torch.arange(len(group), device=group.device) - first
    ranks[tied] += random_subsets(level[starts], sizes, generator)[group, within]
    return ranks


def random_subsets(
    totals: Int[Tensor, " g"], sizes: Int[Tensor, " g"], generator: "torch.Generator"
) -> Int[Tensor, "g s"]:
    """Draw `sizes` distinct numbers from 0 … totals-1 for each row, uniformly over all subsets.

    The numbers ascend; entries beyond a row's size are undefined.
    """
    # At most half of the numbers are drawn, so that collisions are rare; for larger subsets the
    # numbers to exclude are drawn.
    is_complement = 2 * sizes > totals
    n_drawn = torch.where(is_complement, totals - sizes, sizes)
    slots = torch.arange(int(sizes.max()), device=totals.device).expand(len(totals), -1)
    unused = slots >= n_drawn[:, None]
    limits = totals[:, None].expand_as(slots)
    numbers = torch.where(unused, limits + slots, _random_below(limits, generator)).sort(1).values
    while True:
        collided = torch.zeros_like(unused)
        collided[:, 1:] = numbers[:, 1:] == numbers[:, :-1]
        if not collided.any():
            break
        numbers[collided] = _random_below(limits[collided], generator)
        numbers = numbers.sort(1).values
    # The k-th number that is not in c₀<c₁<… is k plus the number of i with cᵢ-i ≤ k.
    n_excluded = torch.searchsorted(numbers - slots, slots.contiguous(), right=True)
    included = slots + torch.minimum(n_excluded, n_drawn[:, None])
    return torch.where(is_complement[:, None], included, numbers)


def _random_below(
    limits: Int[Tensor, "*shape"], generator: "torch.Generator"
) -> Int[Tensor, "*shape"]:
    uniform = torch.rand(
        limits.shape, generator=generator, device=limits.device, dtype=torch.float64
    )
    return (uniform * limits).long()
