"""Requirements on a loss: a number computed from embeddings [n d] and labels [n]."""

import inspect
from typing import Any

import torch
from torch import Tensor

from oodml.checks.requirement import Advice, Make, NotApplicable, Violation, close
from oodml.checks.samples import (
    DIM,
    EMBEDDING_KINDS,
    UNUSUAL_LABELS,
    find_synchronization,
    sample_rows,
)
from oodml.losses._base import accepts_triplets, all_triplets

SIZES: dict[str, Any] = {"n_classes": 4, "dim": DIM}
"""Values of these options, for losses that have them. Labels are 0 to 3."""
PAIRS = (0, 0, 1, 1, 2, 2, 3, 3)


def _parameter(loss: Any, name: str) -> inspect.Parameter | None:
    return inspect.signature(getattr(loss, "forward", loss)).parameters.get(name)


def compute(loss: Any, x: Tensor, y: Tensor) -> Tensor:
    """The loss of a batch without a miner; on all triplets if the loss requires triplets."""
    parameter = _parameter(loss, "triplets")
    required = parameter is not None and parameter.default is parameter.empty
    value = loss(x, y, all_triplets(y)) if required else loss(x, y)
    if not isinstance(value, Tensor) or value.shape != ():
        got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise Violation(f"it returns {got}", "Return a scalar tensor of shape (), such as a mean")
    return value


def uses_triplets(loss: Any) -> bool:
    """Whether the triplets that a loss is given change its value.

    A loss without the argument `triplets`, or with `triplets: None`, does not take any. One that
    raises when it is given triplets violates its requirements.
    """
    if not accepts_triplets(loss):
        return False
    x, y = sample_rows(PAIRS)
    every = all_triplets(y)
    try:
        return not torch.equal(loss(x, y, every), loss(x, y, every[:1]))
    except Exception as error:  # user code may raise anything
        problem = f"given triplets [t 3], it raises {type(error).__name__}: {error}"
        remedy = "Compute the loss from the triplets, or annotate the argument as `triplets: None`"
        raise Violation(problem, remedy) from error


def _compute_checked(loss: Any, x: Tensor, y: Tensor, batch: str) -> Tensor:
    """The loss of a batch, after checking that it and all gradients are finite."""
    x = x.clone().requires_grad_()
    value = compute(loss, x, y)
    remedy = "Guard divisions, roots, and logarithms (clamp), and means over nothing"
    if not value.isfinite():
        raise Violation(f"{batch}: the loss is {float(value.detach())}", remedy)
    if value.requires_grad:
        value.backward()  # type: ignore[no-untyped-call]
    for gradient in (x.grad, *(parameter.grad for parameter in _parameters(loss))):
        if gradient is not None and not gradient.isfinite().all():
            raise Violation(f"{batch}: a gradient is not finite", remedy)
    return value.detach()


def _parameters(loss: Any) -> list[Tensor]:
    return list(loss.parameters()) if isinstance(loss, torch.nn.Module) else []


def check_value(make: Make) -> None:
    """The loss of a batch is one finite number, with finite gradients."""
    _compute_checked(make(), *sample_rows(PAIRS), "a batch of pairs")


def check_gradient(make: Make) -> None:
    """The embeddings receive a gradient."""
    x, y = sample_rows(PAIRS)
    value = compute(make(), x.requires_grad_(), y)
    if value.requires_grad:
        value.backward()  # type: ignore[no-untyped-call]
    if x.grad is None or not x.grad.abs().sum() > 0:
        remedy = "Compute the loss from the given embeddings, without detach(), item(), or numpy()"
        raise Violation("the gradient of the embeddings is zero or missing", remedy)


def check_descent(make: Make) -> None:
    """A small step against the gradient lowers the loss."""
    loss, (x, y) = make(), sample_rows(PAIRS)
    value = compute(loss, x.requires_grad_(), y)
    (gradient,) = torch.autograd.grad(value, x)
    after = compute(loss, x - 1e-3 * gradient / gradient.norm().clamp(min=1e-12), y)
    if not after < value:
        change = f"it changes from {float(value.detach()):.6g} to {float(after.detach()):.6g}"
        raise Violation(change, "Look for detach() in one term, rounding, or random numbers")


def check_optimization(make: Make) -> None:
    """Twenty steps of Adam on the embeddings lower the loss."""
    loss, (x, y) = make(), sample_rows(PAIRS)
    x.requires_grad_()
    optimizer = torch.optim.Adam([x], lr=0.01)
    first = compute(loss, x, y).detach()
    for _ in range(20):
        optimizer.zero_grad()
        compute(loss, x, y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    last = compute(loss, x, y).detach()
    if not last < first:
        raise Violation(f"it changes from {float(first):.6g} to {float(last):.6g}", "Check signs")


def check_unusual_batches(make: Make) -> None:
    """Loss and gradients are finite for one class, singletons, one row, and one pair."""
    for batch, labels in UNUSUAL_LABELS.items():
        _compute_checked(make(), *sample_rows(labels), batch)


def check_unusual_embeddings(make: Make) -> None:
    """Loss and gradients are finite for long, zero, equal, and opposite embeddings."""
    for kind in EMBEDDING_KINDS:
        _compute_checked(make(), *sample_rows(PAIRS, kind=kind), f"{kind} embeddings")


def check_no_triplets(make: Make) -> None:
    """Without triplets the loss is 0, or only its penalty on single embeddings."""
    loss, (x, y) = make(), sample_rows(PAIRS)
    if not uses_triplets(loss):
        raise NotApplicable("it is not computed from triplets")
    value = loss(x.requires_grad_(), y, torch.zeros(0, 3, dtype=torch.int64))
    remedy = "Divide by max(number of triplets, 1)"
    if value.requires_grad:
        value.backward()
    if x.grad is not None and not x.grad.isfinite().all():
        raise Violation("a gradient is not finite", remedy)
    if not 0 <= value.detach() <= loss(x, y, all_triplets(y)).detach():
        raise Violation(f"it is {float(value.detach())}", remedy)


def check_valid_mask(make: Make) -> None:
    """Triplets outside the mask `valid` do not change the loss."""
    loss, (x, y) = make(), sample_rows(PAIRS)
    if _parameter(loss, "valid") is None:
        raise NotApplicable("it takes no mask `valid`; triplets are filtered before the call")
    triplets = all_triplets(y)[:10]
    valid = torch.arange(len(triplets)) % 3 > 0
    masked = float(loss(x, y, triplets, valid).detach())
    filtered = float(loss(x, y, triplets[valid]).detach())
    if not close(masked, filtered, 1e-5):
        problem = f"{masked:.6g} with the mask, {filtered:.6g} on the valid triplets alone"
        raise Violation(problem, "Average over the valid triplets only")


def check_order(make: Make) -> None:
    """The order of the rows does not matter."""
    loss, (x, y) = make(), sample_rows((0, 0, 1, 1, 2, 2, 2, 3))
    order = torch.tensor([5, 2, 0, 7, 1, 4, 6, 3])
    first = float(compute(loss, x, y).detach())
    second = float(compute(loss, x[order], y[order]).detach())
    if not close(first, second, 1e-4):
        remedy = "Find pairs by their labels, not by their position in the batch"
        raise Violation(f"{first:.6g} in one order, {second:.6g} in another", remedy)


def check_determinism(make: Make) -> None:
    """Two calls return the same value and draw nothing from the global random generator."""
    x, y = sample_rows(PAIRS)
    state = torch.get_rng_state()
    loss = make()
    before = torch.get_rng_state()
    first, second = float(compute(loss, x, y).detach()), float(compute(loss, x, y).detach())
    drew = not torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(state)
    if first != second or drew:
        problem = f"{first:.6g}, then {second:.6g}"
        problem = problem if first != second else "it draws from the global random generator"
        remedy = "Take a torch.Generator as an option, or leave randomness to a miner or method"
        raise Violation(problem, remedy)


def check_half_precision(make: Make) -> None:
    """Under autocast, on bfloat16, the loss is finite and close to its full-precision value."""
    x, y = sample_rows((0, 0, 1, 1, 2, 2))
    half = x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = _compute_checked(make(), half, y, "bfloat16")
    full = float(compute(make(), half.float(), y).detach())
    if not close(float(value), full, 0.05, 1e-3):
        remedy = "Compute on embeddings.float(), under torch.autocast(device, enabled=False)"
        raise Violation(f"{float(value):.5g} instead of {full:.5g}", remedy)


def check_inputs_unchanged(make: Make) -> None:
    """Embeddings and labels are not modified."""
    x, y = sample_rows(PAIRS)
    before = x.clone(), y.clone()
    compute(make(), x, y)
    if not torch.equal(x, before[0]) or not torch.equal(y, before[1]):
        raise Violation("it modifies them", "Use no in-place operation on the arguments")


def check_parameter_groups(make: Make) -> None:
    """Its optimizer groups contain every parameter once."""
    loss = make()
    if not hasattr(loss, "parameter_groups"):
        raise NotApplicable("without parameter_groups(lr), parameters train at the base rate")
    groups = loss.parameter_groups(1e-3)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    trainable = [id(parameter) for parameter in _parameters(loss) if parameter.requires_grad]
    if sorted(grouped) != sorted(trainable):
        problem = f"{len(grouped)} parameters in the groups, {len(trainable)} trainable"
        raise Violation(problem, "Put each trainable parameter in exactly one group")
    if any("lr" not in group for group in groups):
        raise Violation("a group has no `lr`", "Give each group `lr` and `weight_decay`")


def check_state(make: Make) -> None:
    """Its state can be saved and loaded."""
    loss, restored, (x, y) = make(), make(), sample_rows(PAIRS)
    if not _parameters(loss):
        raise NotApplicable("it has no parameters")
    with torch.no_grad():
        for parameter in _parameters(loss):
            parameter.mul_(1.5)
    restored.load_state_dict(loss.state_dict())
    before, after = (float(compute(one, x, y).detach()) for one in (loss, restored))
    if before != after:
        remedy = "Register tensors as parameters or buffers"
        raise Violation(f"{before:.6g} before, {after:.6g} after", remedy)


def check_synchronization(make: Make) -> None:
    """No operation waits for the GPU (item(), nonzero(), indexing with a mask)."""
    loss, (x, y) = make(), sample_rows(PAIRS)
    arguments = [x.requires_grad_(), y]
    if uses_triplets(loss):
        arguments.append(all_triplets(y))
        if _parameter(loss, "valid") is not None:
            arguments.append(torch.ones(len(arguments[-1]), dtype=torch.bool))
    operation = find_synchronization(lambda: loss(*arguments).backward())
    if operation:
        remedy = "Use torch.where and masked means, whose shapes are fixed"
        raise Advice(operation, f"{remedy}. The loss is correct as it is, but slower on a GPU")


BASIC = (check_value, check_gradient)
