"""What a miner promises: triplets [t 3] of rows (anchor, positive, negative) of a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from oodml.contract.promise import Advice, Broken, Make, NotPromised, Promise, explained
from oodml.contract.samples import KINDS, ODD, rows, waits

Relation = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _ordinary(y: Tensor, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    return (y[a] == y[p]) & (a != p) & (y[a] != y[n])


def _within(y: Tensor, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    return (y[a] == y[p]) & (y[a] == y[n]) & (p != n)


def _across(y: Tensor, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    return (y[a] != y[p]) & (y[a] != y[n]) & (y[p] != y[n])


def _ordinary_or_apart(y: Tensor, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    return _ordinary(y, a, p, n) | ((a == p) & (y[a] == y[n]) & (a != n))


RELATIONS: dict[str, Relation] = {
    "ordinary": _ordinary,
    "within": _within,
    "across": _across,
    "ordinary or apart": _ordinary_or_apart,
}
"""How the labels of a triplet may stand to each other; a miner says its own by `relation`:
anchor and positive alike and the negative not; all of one class; all of different classes."""


def relation_of(miner: Any) -> str:
    """The relation that a miner says, by default the ordinary one."""
    return str(getattr(miner, "relation", "ordinary"))


def mined(miner: Any, x: Tensor, y: Tensor, seed: int = 0) -> Tensor:
    """The triplets of a batch, after looking at their shape, rows and labels."""
    found = miner(x, y, torch.Generator().manual_seed(seed))
    if not isinstance(found, Tensor) or found.shape[1:] != (3,) or found.dtype != torch.int64:
        told = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else type(found)
        raise Broken(f"it gives {told}", "Return whole numbers of shape [t, 3]: anchor, positive, "
                     "negative; [0, 3] if there are none")  # fmt: skip
    if not ((found >= 0) & (found < len(y))).all():
        raise Broken("it names rows that the batch has not", "Give rows from 0 to n − 1")
    relation = relation_of(miner)
    right = RELATIONS[relation](y, *found.unbind(1))
    if not right.all():
        wrong = found[~right][0].tolist()
        raise Broken(
            f"labels {y.tolist()}: triplet {wrong} is not {relation}",
            "Mask the choice by the labels, or say another `relation` of the class: "
            + ", ".join(RELATIONS),
        )
    return found


def triplets_are_as_promised(make: Make) -> None:
    """Triplets name rows of the batch whose labels stand in the promised relation."""
    random = torch.Generator().manual_seed(0)
    for size in range(1, 15):
        labels: Sequence[int] = torch.randint(0, 1 + size // 2, (size,), generator=random).tolist()
        for kind in KINDS:
            mined(make(), *rows(labels, size, kind), seed=size)


def odd_batches_are_mined(make: Make) -> None:
    """Batches of one class, of singletons, of one row are mined without an error."""
    for labels in ODD.values():
        mined(make(), *rows(labels))


def none_where_there_is_none(make: Make) -> None:
    """It finds nothing where the labels allow nothing, and something where they do."""
    for labels in ((0, 0, 0, 0), (0, 1)):
        possible = relation_of(make()) == "within" and labels == (0, 0, 0, 0)
        if not possible and len(mined(make(), *rows(labels))):
            raise Broken(f"it finds triplets in labels {labels}", "Leave such anchors out")
    if not len(mined(make(), *rows((0, 0, 1, 1, 2, 3)))):
        raise Broken("it finds nothing in labels 0 0 1 1 2 3", "Use every anchor that has a pair")


def the_generator_decides(make: Make) -> None:
    """The generator decides: twice the same, and nothing is drawn from the global one."""
    x, y = rows(tuple(range(4)) * 3)
    one = mined(make(), x, y, 3)
    miner, state = make(), torch.get_rng_state()
    again = mined(miner, x, y, 3)
    moved = not torch.equal(state, torch.get_rng_state())
    torch.set_rng_state(state)
    remedy = "Draw with torch.rand(…, generator=generator) only"
    if moved:
        raise Broken("the global generator moved", remedy)
    if not torch.equal(one, again):
        raise Broken("two sets of triplets from one seed", remedy)


def masked_is_the_same(make: Make) -> None:
    """`masked` gives the same triplets with a shape that does not depend on the labels."""
    miner = make()
    if not hasattr(miner, "masked"):
        raise NotPromised("it has no masked(…); then a method filters, which waits for a GPU")
    x, y = rows((0, 0, 1, 1, 2, 2, 3))
    triplets, valid = miner.masked(x, y, torch.Generator().manual_seed(4))
    if not torch.equal(triplets[valid], mined(make(), x, y, 4)):
        raise Broken("other triplets than the call gives", "Let __call__ be masked, filtered")
    one_class, none = miner.masked(x, torch.zeros_like(y), torch.Generator())
    if one_class.shape != triplets.shape or none.shape != valid.shape:
        raise Broken("its shape depends on the labels", "Keep all rows; say by `valid` which count")


def many_batches_at_once(make: Make) -> None:
    """`choose` runs on many batches at once, as few-shot adaptation has it."""
    miner = make()
    if not hasattr(miner, "choose"):
        raise NotPromised("it has no choose(…), a pure function of uniform numbers")
    random = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (4, 9), generator=random)
    x = torch.randn(4, 9, 5, generator=random)
    uniform = torch.rand(4, miner.draws, 9, generator=random)
    together = torch.func.vmap(miner.choose)(x, y, uniform)
    for batch in range(4):
        triplets, valid = miner.choose(x[batch], y[batch], uniform[batch])
        same = torch.equal(together[1][batch], valid)
        if not same or not torch.equal(together[0][batch][valid], triplets[valid]):
            raise Broken("alone it chooses otherwise", "Let no shape or branch depend on the data")


def half_precision(make: Make) -> None:
    """Under autocast it chooses the same, on bfloat16 it works, and no gradient matters."""
    x, y = rows(tuple(range(4)) * 3)
    plain = mined(make(), x, y)
    with torch.autocast("cpu", torch.bfloat16):
        cast = mined(make(), x.clone().requires_grad_(), y)
        mined(make(), x.bfloat16(), y)
    if not torch.equal(plain, cast):
        raise Broken(
            "other triplets under autocast",
            "Compute distances on embeddings.float(), under torch.autocast(device, enabled=False)",
        )


def inputs_stay(make: Make) -> None:
    """Embeddings and labels are not changed."""
    x, y = rows((0, 0, 1, 1, 2, 2))
    before = x.clone(), y.clone()
    mined(make(), x, y)
    if not torch.equal(x, before[0]) or not torch.equal(y, before[1]):
        raise Broken("it changed them", "Use no in-place operation on what is given")


def nothing_waits_for_the_gpu(make: Make) -> None:
    """No step of it waits for the GPU (item(), nonzero(), masks as indices)."""
    miner, (x, y) = make(), rows((0, 0, 1, 1, 2, 2))
    mine: Any = getattr(miner, "masked", miner)
    reason = waits(lambda: mine(x, y, torch.Generator().manual_seed(0)))
    if reason:
        raise Advice(reason, "Build on oodml.miners._base.BaseMiner, whose choose() has fixed "
                     "shapes; it is right as it is, but slower on a GPU")  # fmt: skip


def options_are_explained(make: Make) -> None:
    """Its docstring says what its options mean."""
    explained(type(make()))


PROMISES: tuple[Promise, ...] = (
    triplets_are_as_promised,
    odd_batches_are_mined,
    none_where_there_is_none,
    the_generator_decides,
    masked_is_the_same,
    many_batches_at_once,
    half_precision,
    inputs_stay,
    nothing_waits_for_the_gpu,
    options_are_explained,
)
