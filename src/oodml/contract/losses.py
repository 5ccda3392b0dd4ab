"""What a loss promises: a number from embeddings [n d] and labels [n], and its gradient."""

import inspect
from typing import Any

import torch
from torch import Tensor

from oodml.contract.promise import Advice, Broken, Make, NotPromised, Promise, explained, near
from oodml.contract.samples import DIM, KINDS, ODD, rows, waits
from oodml.losses._base import all_triplets

SIZES: dict[str, Any] = {"n_classes": 4, "dim": DIM}
"""Given to a loss that has these options; labels are 0 … 3."""
PAIRS = (0, 0, 1, 1, 2, 2, 3, 3)


def takes(loss: Any, name: str) -> bool:
    """Whether a loss is called with an argument of that name."""
    return name in inspect.signature(getattr(loss, "forward", loss)).parameters


def value_of(loss: Any, x: Tensor, y: Tensor) -> Tensor:
    """The loss of a batch as a method without a miner has it; on all triplets if it needs some."""
    parameter = inspect.signature(getattr(loss, "forward", loss)).parameters.get("triplets")
    needed = parameter is not None and parameter.default is parameter.empty
    found = loss(x, y, all_triplets(y)) if needed else loss(x, y)
    if not isinstance(found, Tensor) or found.shape != ():
        told = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise Broken(f"it gives {told}", "Return one number, a tensor of shape (): the mean")
    return found


def _checked(loss: Any, x: Tensor, y: Tensor, what: str) -> Tensor:
    """The value, after looking at it and at every gradient."""
    x = x.clone().requires_grad_()
    value = value_of(loss, x, y)
    remedy = "Guard divisions, roots and logarithms (clamp), and means of nothing"
    if not value.isfinite():
        raise Broken(f"{what}: the loss is {float(value.detach())}", remedy)
    if value.requires_grad:
        value.backward()  # type: ignore[no-untyped-call]
    for gradient in (x.grad, *(parameter.grad for parameter in _parameters(loss))):
        if gradient is not None and not gradient.isfinite().all():
            raise Broken(f"{what}: a gradient is not finite", remedy)
    return value.detach()


def _parameters(loss: Any) -> list[Tensor]:
    return list(loss.parameters()) if isinstance(loss, torch.nn.Module) else []


def gives_one_finite_number(make: Make) -> None:
    """The loss of a batch is one finite number."""
    _checked(make(), *rows(PAIRS), "a batch of pairs")


def gradient_reaches_embeddings(make: Make) -> None:
    """A gradient reaches the embeddings."""
    x, y = rows(PAIRS)
    value = value_of(make(), x.requires_grad_(), y)
    if value.requires_grad:
        value.backward()  # type: ignore[no-untyped-call]
    if x.grad is None or not x.grad.abs().sum() > 0:
        raise Broken(
            "the gradient of the embeddings is zero or missing",
            "Compute with the embeddings given; no detach(), item() or numpy() on the way",
        )


def falls_along_its_gradient(make: Make) -> None:
    """A small step against the gradient lowers the loss."""
    loss, (x, y) = make(), rows(PAIRS)
    value = value_of(loss, x.requires_grad_(), y)
    (gradient,) = torch.autograd.grad(value, x)
    after = value_of(loss, x - 1e-3 * gradient / gradient.norm().clamp(min=1e-12), y)
    if not after < value:
        raise Broken(
            f"it goes from {float(value.detach()):.6g} to {float(after.detach()):.6g}",
            "Look for a detach() in one part, for rounding, or for a loss that draws anew",
        )


def steps_lower_it(make: Make) -> None:
    """Twenty steps of Adam on the embeddings lower the loss."""
    loss, (x, y) = make(), rows(PAIRS)
    x.requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.01)
    first = value_of(loss, x, y).detach()
    for _ in range(20):
        optimizer.zero_grad()
        value_of(loss, x, y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    last = value_of(loss, x, y).detach()
    if not last < first:
        raise Broken(f"it goes from {float(first):.6g} to {float(last):.6g}", "Is the sign right?")


def odd_batches_are_finite(make: Make) -> None:
    """Loss and gradients are finite for one class, singletons, one row, one pair."""
    for what, labels in ODD.items():
        _checked(make(), *rows(labels), what)


def any_embedding_is_finite(make: Make) -> None:
    """Loss and gradients are finite for long, zero, equal and opposite embeddings."""
    for kind in KINDS:
        _checked(make(), *rows(PAIRS, kind=kind), f"{kind} embeddings")


def no_triplets_are_no_loss(make: Make) -> None:
    """Without a single triplet it is 0, or the penalty that it puts on single embeddings."""
    loss, (x, y) = make(), rows(PAIRS)
    if not takes(loss, "triplets") or not mined(loss):
        raise NotPromised("it is not computed from triplets")
    value = loss(x.requires_grad_(), y, torch.zeros(0, 3, dtype=torch.int64))
    if value.requires_grad:
        value.backward()
    if x.grad is not None and not x.grad.isfinite().all():
        raise Broken("a gradient is not finite", "Divide by max(number of triplets, 1)")
    if not 0 <= value.detach() <= loss(x, y, all_triplets(y)).detach():
        raise Broken(f"it is {float(value)}", "Divide by max(number of triplets, 1)")


def mined(loss: Any) -> bool:
    """Whether triplets change the loss."""
    x, y = rows(PAIRS)
    every = all_triplets(y)
    try:
        return not torch.equal(loss(x, y, every), loss(x, y, every[:1]))
    except Exception:  # such as a type check that allows only None
        return False


def only_valid_triplets_count(make: Make) -> None:
    """Of triplets given with a mask `valid`, those outside it count nothing."""
    loss, (x, y) = make(), rows(PAIRS)
    if not takes(loss, "valid"):
        raise NotPromised("it takes no mask `valid`; triplets are then filtered before")
    triplets = all_triplets(y)[:10]
    valid = torch.arange(len(triplets)) % 3 > 0
    masked = float(loss(x, y, triplets, valid).detach())
    filtered = float(loss(x, y, triplets[valid]).detach())
    if not near(masked, filtered, 1e-5):
        raise Broken(
            f"{masked:.6g} with the mask, {filtered:.6g} on the valid ones alone",
            "Average over the valid triplets only",
        )


def order_does_not_matter(make: Make) -> None:
    """The order of the rows does not matter."""
    loss, (x, y) = make(), rows((0, 0, 1, 1, 2, 2, 2, 3))
    order = torch.tensor([5, 2, 0, 7, 1, 4, 6, 3])
    one, other = (
        float(value_of(loss, x, y).detach()),
        float(value_of(loss, x[order], y[order]).detach()),
    )
    if not near(one, other, 1e-4):
        raise Broken(f"{one:.6g} in one order, {other:.6g} in another", "Use the labels to find "
                     "pairs, not places in the batch")  # fmt: skip


def same_twice(make: Make) -> None:
    """It is the same twice, and draws nothing from the global generator."""
    x, y = rows(PAIRS)
    state = torch.get_rng_state()
    loss = make()
    made = torch.get_rng_state()
    one, other = float(value_of(loss, x, y).detach()), float(value_of(loss, x, y).detach())
    moved = not torch.equal(made, torch.get_rng_state())
    torch.set_rng_state(state)
    if one != other or moved:
        raise Broken(
            f"{one:.6g}, then {other:.6g}"
            if one != other
            else "it draws from the global generator",
            "Take a torch.Generator as an option, or leave drawing to a miner or method",
        )


def half_precision(make: Make) -> None:
    """Under autocast, on bfloat16, it is finite and near its value in full precision."""
    x, y = rows((0, 0, 1, 1, 2, 2))
    half = x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = _checked(make(), half, y, "bfloat16")
    full = float(value_of(make(), half.float(), y).detach())
    if not near(float(value), full, 0.05, 1e-3):
        raise Broken(f"{float(value):.5g} instead of {full:.5g}", "Compute in full precision: "
                     "embeddings.float() under torch.autocast(device, enabled=False)")  # fmt: skip


def inputs_stay(make: Make) -> None:
    """Embeddings and labels are not changed."""
    x, y = rows(PAIRS)
    before = x.clone(), y.clone()
    value_of(make(), x, y)
    if not torch.equal(x, before[0]) or not torch.equal(y, before[1]):
        raise Broken("it changed them", "Use no in-place operation on what is given")


def groups_hold_every_parameter(make: Make) -> None:
    """Its optimiser groups hold every parameter once."""
    loss = make()
    if not hasattr(loss, "parameter_groups"):
        raise NotPromised("it has no parameter_groups(lr); its parameters train at the base rate")
    groups = loss.parameter_groups(1e-3)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    own = [id(parameter) for parameter in _parameters(loss) if parameter.requires_grad]
    if sorted(held) != sorted(own):
        raise Broken(f"{len(held)} in the groups, {len(own)} that train", "Give each exactly once")
    if any("lr" not in group for group in groups):
        raise Broken("a group has no `lr`", "Give each group lr and weight_decay")


def state_comes_back(make: Make) -> None:
    """Its state can be saved and loaded."""
    loss, other, (x, y) = make(), make(), rows(PAIRS)
    if not _parameters(loss):
        raise NotPromised("it has no parameters")
    with torch.no_grad():
        for parameter in _parameters(loss):
            parameter.mul_(1.5)
    other.load_state_dict(loss.state_dict())
    one, again = float(value_of(loss, x, y).detach()), float(value_of(other, x, y).detach())
    if one != again:
        raise Broken(f"{one:.6g} before, {again:.6g} after", "Register tensors as parameters or "
                     "buffers")  # fmt: skip


def nothing_waits_for_the_gpu(make: Make) -> None:
    """No step of it waits for the GPU (item(), nonzero(), masks as indices)."""
    loss, (x, y) = make(), rows(PAIRS)
    arguments = [x.requires_grad_(), y]
    if takes(loss, "triplets") and mined(loss):
        triplets = all_triplets(y)
        arguments.append(triplets)
        if takes(loss, "valid"):
            arguments.append(torch.ones(len(triplets), dtype=torch.bool))
    reason = waits(lambda: loss(*arguments).backward())
    if reason:
        raise Advice(f"{reason}", "Use torch.where and masked means, whose shapes are fixed; it "
                     "is right as it is, but slower on a GPU")  # fmt: skip


def options_are_explained(make: Make) -> None:
    """Its docstring says what its options mean."""
    explained(getattr(make, "thing", None) or type(make()))


PROMISES: tuple[Promise, ...] = (
    gives_one_finite_number,
    gradient_reaches_embeddings,
    falls_along_its_gradient,
    steps_lower_it,
    odd_batches_are_finite,
    any_embedding_is_finite,
    no_triplets_are_no_loss,
    only_valid_triplets_count,
    order_does_not_matter,
    same_twice,
    half_precision,
    inputs_stay,
    groups_hold_every_parameter,
    state_comes_back,
    nothing_waits_for_the_gpu,
    options_are_explained,
)
