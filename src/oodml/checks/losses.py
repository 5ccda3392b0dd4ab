"""Requirements on a loss: a number computed from embeddings [n d] and labels [n]."""

import inspect
from functools import partial
from typing import Any

import torch
from torch import Tensor

from oodml.checks import samples
from oodml.checks.requirement import Make, Violation, close, require, skip_unless
from oodml.checks.samples import sample_rows
from oodml.losses._base import accepts_triplets, all_triplets

SIZES: dict[str, Any] = {"n_classes": 4, "dim": samples.DIM}
"""Values of these options, for losses that have them. Labels are 0 to 3."""
PAIRS = (0, 0, 1, 1, 2, 2, 3, 3)


def _parameter(loss: Any, name: str) -> inspect.Parameter | None:
    return inspect.signature(getattr(loss, "forward", loss)).parameters.get(name)


def compute(loss: Any, x: Tensor, y: Tensor) -> Tensor:
    """The loss of a batch without a miner; on all triplets if the loss requires triplets."""
    parameter = _parameter(loss, "triplets")
    required = parameter is not None and parameter.default is parameter.empty
    value: Tensor = loss(x, y, all_triplets(y)) if required else loss(x, y)
    got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    require(got == (), f"it returns {got}", "Return a scalar tensor of shape (), such as a mean")
    return value


def uses_triplets(loss: Any) -> bool:
    """Whether the loss depends on the triplets that it is given; False if it takes none."""
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
    require(value.isfinite(), f"{batch}: the loss is {float(value.detach())}", remedy)
    if value.requires_grad:
        value.backward()  # type: ignore[no-untyped-call]
    for gradient in (x.grad, *(parameter.grad for parameter in _parameters(loss))):
        finite = gradient is None or gradient.isfinite().all()
        require(finite, f"{batch}: a gradient is not finite", remedy)
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
    remedy = "Compute the loss from the given embeddings, without detach(), item(), or numpy()"
    problem = "the gradient of the embeddings is zero or missing"
    require(x.grad is not None and x.grad.abs().sum() > 0, problem, remedy)


def check_descent(make: Make) -> None:
    """A small step against the gradient lowers the loss."""
    loss, (x, y) = make(), sample_rows(PAIRS)
    value = compute(loss, x.requires_grad_(), y)
    (gradient,) = torch.autograd.grad(value, x)
    after = compute(loss, x - 1e-3 * gradient / gradient.norm().clamp(min=1e-12), y)
    change = f"it changes from {float(value.detach()):.6g} to {float(after.detach()):.6g}"
    require(after < value, change, "Look for detach() in one term, rounding, or random numbers")


def check_unusual_batches(make: Make) -> None:
    """Loss and gradients are finite for one class, singletons, one row, and one pair."""
    for batch, labels in samples.UNUSUAL_LABELS.items():
        _compute_checked(make(), *sample_rows(labels), batch)


def check_unusual_embeddings(make: Make) -> None:
    """Loss and gradients are finite for long, zero, equal, and opposite embeddings."""
    for kind in samples.EMBEDDING_KINDS:
        _compute_checked(make(), *sample_rows(PAIRS, kind=kind), f"{kind} embeddings")


def check_no_triplets(make: Make) -> None:
    """Without triplets the loss is 0, or only its penalty on single embeddings."""
    loss, (x, y) = make(), sample_rows(PAIRS)
    skip_unless(uses_triplets(loss), "it is not computed from triplets")
    value = loss(x.requires_grad_(), y, torch.zeros(0, 3, dtype=torch.int64))
    remedy = "Divide by max(number of triplets, 1)"
    if value.requires_grad:
        value.backward()
    require(x.grad is None or x.grad.isfinite().all(), "a gradient is not finite", remedy)
    value, largest = value.detach(), loss(x, y, all_triplets(y)).detach()
    require(0 <= value <= largest, f"it is {float(value)}", remedy)


def check_valid_mask(make: Make) -> None:
    """Triplets outside the mask `valid` do not change the loss."""
    loss, (x, y) = make(), sample_rows(PAIRS)
    reason = "it takes no mask `valid`; triplets are filtered before the call"
    skip_unless(_parameter(loss, "valid") is not None, reason)
    triplets = all_triplets(y)[:10]
    valid = torch.arange(len(triplets)) % 3 > 0
    masked = float(loss(x, y, triplets, valid).detach())
    filtered = float(loss(x, y, triplets[valid]).detach())
    problem = f"{masked:.6g} with the mask, {filtered:.6g} on the valid triplets alone"
    require(close(masked, filtered, 1e-5), problem, "Average over the valid triplets only")


def check_order(make: Make) -> None:
    """The order of the rows does not matter."""
    loss, (x, y) = make(), sample_rows((0, 0, 1, 1, 2, 2, 2, 3))
    order = torch.tensor([5, 2, 0, 7, 1, 4, 6, 3])
    first = float(compute(loss, x, y).detach())
    second = float(compute(loss, x[order], y[order]).detach())
    problem = f"{first:.6g} in one order, {second:.6g} in another"
    remedy = "Find pairs by their labels, not by their position in the batch"
    require(close(first, second, 1e-4), problem, remedy)


def check_determinism(make: Make) -> None:
    """Two calls return the same value and draw nothing from the global random generator."""
    loss, (x, y) = make(), sample_rows(PAIRS)

    values = (float(compute(loss, x, y).detach()) for _ in range(2))
    (first, second), drew = samples.draws_globally(lambda: tuple(values))
    remedy = "Take a torch.Generator as an option, or leave randomness to a miner or method"
    require(first == second, f"{first:.6g}, then {second:.6g}", remedy)
    require(not drew, "it draws from the global random generator", remedy)


def check_half_precision(make: Make) -> None:
    """Under autocast, on bfloat16, the loss is finite and close to its full-precision value."""
    x, y = sample_rows((0, 0, 1, 1, 2, 2))
    half = x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = float(_compute_checked(make(), half, y, "bfloat16"))
    full = float(compute(make(), half.float(), y).detach())
    remedy = "Compute on embeddings.float(), under torch.autocast(device, enabled=False)"
    require(close(value, full, 0.05, 1e-3), f"{value:.5g} instead of {full:.5g}", remedy)


def check_inputs_unchanged(make: Make) -> None:
    """Embeddings and labels are not modified."""
    samples.require_unchanged(partial(compute, make()), PAIRS)


def check_parameter_groups(make: Make) -> None:
    """Its optimizer groups contain every parameter once."""
    loss = make()
    reason = "without parameter_groups(lr), parameters train at the base rate"
    skip_unless(hasattr(loss, "parameter_groups"), reason)
    groups = loss.parameter_groups(1e-3)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    trainable = [id(parameter) for parameter in _parameters(loss) if parameter.requires_grad]
    problem = f"{len(grouped)} parameters in the groups, {len(trainable)} trainable"
    remedy = "Put each trainable parameter in exactly one group"
    require(sorted(grouped) == sorted(trainable), problem, remedy)
    rates = all("lr" in group for group in groups)
    require(rates, "a group has no `lr`", "Give each group `lr` and `weight_decay`")


def check_state(make: Make) -> None:
    """Its state can be saved and loaded."""
    loss, restored, (x, y) = make(), make(), sample_rows(PAIRS)
    skip_unless(_parameters(loss), "it has no parameters")
    with torch.no_grad():
        for parameter in _parameters(loss):
            parameter.mul_(1.5)
    restored.load_state_dict(loss.state_dict())
    before, after = (float(compute(one, x, y).detach()) for one in (loss, restored))
    remedy = "Register tensors as parameters or buffers"
    require(before == after, f"{before:.6g} before, {after:.6g} after", remedy)


BASIC = (check_value, check_gradient)
