"""Requirements on a miner: triplets [t 3] of rows (anchor, positive, negative) of a batch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from oodml.checks import samples
from oodml.checks.requirement import Make, Violation, require, skip_unless
from oodml.checks.samples import sample_rows

Relation = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _ordinary(y: Tensor, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    return (y[a] == y[p]) & (a != p) & (y[a] != y[n])


RELATIONS: dict[str, Relation] = {
    "ordinary": _ordinary,
    "within": lambda y, a, p, n: (y[a] == y[p]) & (y[a] == y[n]) & (p != n),
    "across": lambda y, a, p, n: (y[a] != y[p]) & (y[a] != y[n]) & (y[p] != y[n]),
    "ordinary or apart": lambda y, a, p, n: (
        _ordinary(y, a, p, n) | ((a == p) & (y[a] == y[n]) & (a != n))
    ),
}
"""Relations between the labels of a triplet; see `BaseMiner.relation`. Each function returns
which triplets satisfy the relation, given labels and rows of anchors, positives, negatives."""


def relation_of(miner: Any) -> str:
    """The relation that a miner declares, by default "ordinary"."""
    return str(getattr(miner, "relation", "ordinary"))


def mine_checked(miner: Any, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
    """The triplets of a batch, after checking their shape, rows, and labels."""
    triplets = miner(x, y, torch.Generator().manual_seed(seed))
    if not isinstance(triplets, Tensor):
        raise Violation(f"it returns {type(triplets)}", "Return an int64 tensor [t, 3]")
    remedy = "Return int64 rows of anchor, positive, negative, [t, 3]; [0, 3] if there are none"
    well_formed = triplets.shape[1:] == (3,) and triplets.dtype == torch.int64
    require(well_formed, f"it returns {triplets.dtype} {tuple(triplets.shape)}", remedy)
    inside = ((triplets >= 0) & (triplets < len(y))).all()
    require(inside, "it returns rows that are not in the batch", "Return rows 0 to n - 1")
    relation = relation_of(miner)
    correct = RELATIONS[relation](y, *triplets.unbind(1))
    if not correct.all():
        problem = f"triplet {triplets[~correct][0].tolist()} is not {relation}"
        remedy = "Mask the choice by the labels, or set the class attribute `relation` to one of: "
        raise Violation(f"labels {y.tolist()}: {problem}", remedy + ", ".join(RELATIONS))
    return triplets


def check_triplets(make: Make) -> None:
    """Triplets are rows of the batch whose labels have the declared relation."""
    random = torch.Generator().manual_seed(0)
    for size in range(1, 15):
        labels: Sequence[int] = torch.randint(0, 1 + size // 2, (size,), generator=random).tolist()
        for kind in samples.EMBEDDING_KINDS:
            mine_checked(make(), *sample_rows(labels, size, kind), seed=size)


def check_unusual_batches(make: Make) -> None:
    """Batches of one class, of singletons, and of one row are accepted."""
    for labels in samples.UNUSUAL_LABELS.values():
        mine_checked(make(), *sample_rows(labels))


def check_completeness(make: Make) -> None:
    """It returns no triplets where the labels allow none, and some where they allow some."""
    for labels in ((0, 0, 0, 0), (0, 1)):
        possible = relation_of(make()) == "within" and labels == (0, 0, 0, 0)
        none = possible or not len(mine_checked(make(), *sample_rows(labels)))
        require(none, f"it returns triplets for labels {labels}", "Skip such anchors")
    some = len(mine_checked(make(), *sample_rows((0, 0, 1, 1, 2, 3))))
    problem = "it returns no triplets for labels 0 0 1 1 2 3"
    require(some, problem, "Use every anchor that has a positive")


def check_generator(make: Make) -> None:
    """The generator is the only source of randomness."""
    x, y = sample_rows(tuple(range(4)) * 3)
    first, miner = mine_checked(make(), x, y, 3), make()
    second, drew = samples.draws_globally(lambda: mine_checked(miner, x, y, 3))
    remedy = "Draw only with torch.rand(…, generator=generator)"
    require(not drew, "it draws from the global random generator", remedy)
    require(torch.equal(first, second), "the same seed gives different triplets", remedy)


def check_masked(make: Make) -> None:
    """`masked` returns the same triplets, with a shape that does not depend on the labels."""
    miner = make()
    reason = "without masked(…), triplets are filtered, which waits for the GPU"
    skip_unless(hasattr(miner, "masked"), reason)
    x, y = sample_rows((0, 0, 1, 1, 2, 2, 3))
    triplets, valid = miner.masked(x, y, torch.Generator().manual_seed(4))
    same = torch.equal(triplets[valid], mine_checked(make(), x, y, 4))
    require(same, "the call returns other triplets", "Let __call__ filter masked(…)")
    one_class, none = miner.masked(x, torch.zeros_like(y), torch.Generator())
    fixed = one_class.shape == triplets.shape and none.shape == valid.shape
    require(fixed, "its shape depends on the labels", "Keep all rows and mark valid ones")


def check_vmap(make: Make) -> None:
    """`choose` works on many batches at once, as few-shot adaptation requires."""
    miner = make()
    reason = "it has no choose(…), a pure function of uniform random numbers"
    skip_unless(hasattr(miner, "choose"), reason)
    random = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (4, 9), generator=random)
    x = torch.randn(4, 9, 5, generator=random)
    uniform = torch.rand(4, miner.draws, 9, generator=random)
    together = torch.func.vmap(miner.choose)(x, y, uniform)
    for batch in range(4):
        triplets, valid = miner.choose(x[batch], y[batch], uniform[batch])
        same = torch.equal(together[1][batch], valid)
        same = same and torch.equal(together[0][batch][valid], triplets[valid])
        require(same, "a batch alone differs", "Let no shape or branch depend on the data")


def check_half_precision(make: Make) -> None:
    """Autocast does not change the triplets, and bfloat16 embeddings are accepted."""
    x, y = sample_rows(tuple(range(4)) * 3)
    plain = mine_checked(make(), x, y)
    with torch.autocast("cpu", torch.bfloat16):
        cast = mine_checked(make(), x.clone().requires_grad_(), y)
        mine_checked(make(), x.bfloat16(), y)
    remedy = "Compute on embeddings.float(), under torch.autocast(device, enabled=False)"
    require(torch.equal(plain, cast), "other triplets under autocast", remedy)


def check_inputs_unchanged(make: Make) -> None:
    """Embeddings and labels are not modified."""
    samples.require_unchanged(partial(mine_checked, make()), (0, 0, 1, 1, 2, 2))


BASIC = (check_triplets,)
