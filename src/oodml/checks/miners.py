"""Requirements on a miner: triplets [t 3] of rows (anchor, positive, negative) of a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from oodml.checks.requirement import Advice, Make, NotApplicable, Violation
from oodml.checks.samples import EMBEDDING_KINDS, UNUSUAL_LABELS, find_synchronization, sample_rows

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
    if triplets.shape[1:] != (3,) or triplets.dtype != torch.int64:
        remedy = "Return int64 rows of anchor, positive, negative, [t, 3]; [0, 3] if there are none"
        raise Violation(f"it returns {triplets.dtype} {tuple(triplets.shape)}", remedy)
    if not ((triplets >= 0) & (triplets < len(y))).all():
        raise Violation("it returns rows that are not in the batch", "Return rows 0 to n - 1")
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
        for kind in EMBEDDING_KINDS:
            mine_checked(make(), *sample_rows(labels, size, kind), seed=size)


def check_unusual_batches(make: Make) -> None:
    """Batches of one class, of singletons, and of one row are accepted."""
    for labels in UNUSUAL_LABELS.values():
        mine_checked(make(), *sample_rows(labels))


def check_completeness(make: Make) -> None:
    """It returns no triplets where the labels allow none, and some where they allow some."""
    for labels in ((0, 0, 0, 0), (0, 1)):
        possible = relation_of(make()) == "within" and labels == (0, 0, 0, 0)
        if not possible and len(mine_checked(make(), *sample_rows(labels))):
            raise Violation(f"it returns triplets for labels {labels}", "Skip such anchors")
    if not len(mine_checked(make(), *sample_rows((0, 0, 1, 1, 2, 3)))):
        problem = "it returns no triplets for labels 0 0 1 1 2 3"
        raise Violation(problem, "Use every anchor that has a positive")


def check_generator(make: Make) -> None:
    """The generator is the only source of randomness."""
    x, y = sample_rows(tuple(range(4)) * 3)
    first = mine_checked(make(), x, y, 3)
    miner, state = make(), torch.get_rng_state()
    second = mine_checked(miner, x, y, 3)
    drew = not torch.equal(state, torch.get_rng_state())
    torch.set_rng_state(state)
    remedy = "Draw only with torch.rand(…, generator=generator)"
    if drew:
        raise Violation("it draws from the global random generator", remedy)
    if not torch.equal(first, second):
        raise Violation("the same seed gives different triplets", remedy)


def check_masked(make: Make) -> None:
    """`masked` returns the same triplets, with a shape that does not depend on the labels."""
    miner = make()
    if not hasattr(miner, "masked"):
        raise NotApplicable("without masked(…), triplets are filtered, which waits for the GPU")
    x, y = sample_rows((0, 0, 1, 1, 2, 2, 3))
    triplets, valid = miner.masked(x, y, torch.Generator().manual_seed(4))
    if not torch.equal(triplets[valid], mine_checked(make(), x, y, 4)):
        raise Violation("the call returns other triplets", "Let __call__ filter masked(…)")
    one_class, none = miner.masked(x, torch.zeros_like(y), torch.Generator())
    if one_class.shape != triplets.shape or none.shape != valid.shape:
        raise Violation("its shape depends on the labels", "Keep all rows and mark valid ones")


def check_vmap(make: Make) -> None:
    """`choose` works on many batches at once, as few-shot adaptation requires."""
    miner = make()
    if not hasattr(miner, "choose"):
        raise NotApplicable("it has no choose(…), a pure function of uniform random numbers")
    random = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (4, 9), generator=random)
    x = torch.randn(4, 9, 5, generator=random)
    uniform = torch.rand(4, miner.draws, 9, generator=random)
    together = torch.func.vmap(miner.choose)(x, y, uniform)
    for batch in range(4):
        triplets, valid = miner.choose(x[batch], y[batch], uniform[batch])
        same = torch.equal(together[1][batch], valid)
        if not same or not torch.equal(together[0][batch][valid], triplets[valid]):
            remedy = "Let no shape or branch depend on the data"
            raise Violation("a batch alone gives other triplets", remedy)


def check_half_precision(make: Make) -> None:
    """Autocast does not change the triplets, and bfloat16 embeddings are accepted."""
    x, y = sample_rows(tuple(range(4)) * 3)
    plain = mine_checked(make(), x, y)
    with torch.autocast("cpu", torch.bfloat16):
        cast = mine_checked(make(), x.clone().requires_grad_(), y)
        mine_checked(make(), x.bfloat16(), y)
    if not torch.equal(plain, cast):
        remedy = "Compute on embeddings.float(), under torch.autocast(device, enabled=False)"
        raise Violation("other triplets under autocast", remedy)


def check_inputs_unchanged(make: Make) -> None:
    """Embeddings and labels are not modified."""
    x, y = sample_rows((0, 0, 1, 1, 2, 2))
    before = x.clone(), y.clone()
    mine_checked(make(), x, y)
    if not torch.equal(x, before[0]) or not torch.equal(y, before[1]):
        raise Violation("it modifies them", "Use no in-place operation on the arguments")


def check_synchronization(make: Make) -> None:
    """No operation waits for the GPU (item(), nonzero(), indexing with a mask)."""
    miner, (x, y) = make(), sample_rows((0, 0, 1, 1, 2, 2))
    mine: Any = getattr(miner, "masked", miner)
    operation = find_synchronization(lambda: mine(x, y, torch.Generator().manual_seed(0)))
    if operation:
        remedy = "Derive it from oodml.miners._base.BaseMiner, whose choose() has fixed shapes"
        raise Advice(operation, f"{remedy}. It is correct as it is, but slower on a GPU")


BASIC = (check_triplets,)
