"""Places within ties, drawn at random so that the order of a file never decides."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def place(
    above: Int[Tensor, "b p"],
    level: Int[Tensor, "b p"],
    scores: Float[Tensor, "b p"],
    valid: Bool[Tensor, "b p"],
    generator: torch.Generator,
) -> Int[Tensor, "b p"]:
    """Ranks of positives, from 1, ascending in a row.

    above: gallery images strictly closer than the positive. level: images at exactly its
    distance, itself among them. scores: of the positives, descending in a row, `valid` first.
    A row's tied images stand in a random order, each row in its own.
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
    offsets = random_subsets(level[starts], sizes, generator)
    ranks[tied] += offsets[group, within]
    return ranks


def random_subsets(
    totals: Int[Tensor, " g"], sizes: Int[Tensor, " g"], generator: torch.Generator
) -> Int[Tensor, "g s"]:
    """For each row, `sizes` distinct numbers of 0 … totals-1, ascending; all subsets alike likely.

    Beyond a row's size stand numbers without meaning.
    """
    # At most half of the numbers are drawn, so that few draws collide: else those left out are.
    complement = 2 * sizes > totals
    drawn = torch.where(complement, totals - sizes, sizes)
    slots = torch.arange(int(sizes.max()), device=totals.device).expand(len(totals), -1)
    unused = slots >= drawn[:, None]
    limits = totals[:, None].expand_as(slots)
    numbers = torch.where(unused, limits + slots, _below(limits, generator)).sort(1).values
    while True:
        collided = torch.zeros_like(unused)
        collided[:, 1:] = numbers[:, 1:] == numbers[:, :-1]
        if not collided.any():
            break
        numbers[collided] = _below(limits[collided], generator)
        numbers = numbers.sort(1).values
    # The k-th number not in c₀<c₁<… is k plus how many i have cᵢ-i ≤ k.
    left_out = torch.searchsorted(numbers - slots, slots.contiguous(), right=True)
    kept = slots + torch.minimum(left_out, drawn[:, None])
    return torch.where(complement[:, None], kept, numbers)


def _below(limits: Int[Tensor, "*shape"], generator: torch.Generator) -> Int[Tensor, "*shape"]:
    uniform = torch.rand(
        limits.shape, generator=generator, device=limits.device, dtype=torch.float64
    )
    return (uniform * limits).long()
