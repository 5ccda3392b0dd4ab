"""Several processes that train one model together; elsewhere a process is a team of one.

`torchrun` or `accelerate launch` starts them. Each passes its share of a batch through the network;
the features of the whole batch are gathered, and every process computes the same head and loss from
them. The leader alone claims runs and writes; the others do what it tells them.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from oodml.errors import OodmlError

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others within a run, before it gives up."""
GRACE = timedelta(seconds=30)
"""How long a process that failed waits for the others to fail in the same way."""
NEVER = timedelta(days=365)
"""The leader may wait long for a run to do, and is then no less alive."""


@dataclass(frozen=True)
class Team:
    """This process among those that train together.

    side: for orders and results, beside gradients and features. votes: on whether all went well.
    """

    rank: int = 0
    size: int = 1
    side: Any = None
    votes: Any = None


_team = Team()


class PartedError(OodmlError):
    """The processes are no longer at the same place and must all end."""


def join(device: str) -> str:
    """Meet the other processes, if there are any; gives the device of this one."""
    global _team
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    from accelerate import PartialState

    cpu = torch.device(device).type == "cpu"
    state = PartialState(cpu=cpu, timeout=PATIENCE, **({"backend": "gloo"} if cpu else {}))
    side, votes = (dist.new_group(backend="gloo", timeout=NEVER) for _ in range(2))
    _team = Team(dist.get_rank(), dist.get_world_size(), side, votes)
    return str(state.device)


def leave() -> None:
    """Part from the others, when all is done."""
    global _team
    if _team.size > 1:
        _team = Team()
        dist.destroy_process_group()


def leads() -> bool:
    """Whether this process claims runs and writes."""
    return _team.rank == 0


def several() -> bool:
    """Whether this process trains together with others."""
    return _team.size > 1


def share(count: int) -> slice:
    """Which of so many rows are this process's; shares differ by one row at the most."""
    if 0 < count < _team.size:
        raise OodmlError(f"{count} images cannot be shared out to {_team.size} processes")
    stops = _stops(count)
    return slice(([0, *stops])[_team.rank], stops[_team.rank])


def _stops(count: int) -> list[int]:
    least, more = divmod(count, _team.size)
    return [least * (rank + 1) + min(rank + 1, more) for rank in range(_team.size)]


def gathered(part: Float[Tensor, "m f"], count: int) -> Float[Tensor, "count f"]:
    """The rows of all processes from each one's share; its gradient is that of its own rows."""
    return cast(Tensor, _Gathered.apply(part, count)) if several() else part


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, part: Tensor, count: int) -> Tensor:
        context.count = count
        return _collected(part, count, None)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0][share(context.count)], None


def collected(part: Float[Tensor, "m f"], count: int) -> Float[Tensor, "count f"]:
    """The rows of all processes, on the CPU and without gradients."""
    return _collected(part, count, _team.side) if several() else part


def _collected(part: Tensor, count: int, group: Any) -> Tensor:
    sizes = torch.diff(torch.tensor([0, *_stops(count)])).tolist()
    padded = part.new_zeros(max(sizes), part.shape[1])
    padded[: len(part)] = part
    found = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(found, padded, group=group)
    return torch.cat([rows[:size] for rows, size in zip(found, sizes, strict=True)])


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients that each process has from its share of a batch."""
    if not several():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def align(*modules: nn.Module) -> None:
    """Give the leader's weights to all, lest rounding drives the processes apart."""
    if not several():
        return
    for module in modules:
        for value in module.state_dict().values():
            if isinstance(value, Tensor):
                dist.broadcast(value, 0)


def synchronise_batch_norm(model: nn.Module, device: torch.device) -> None:
    """Have batch norms that train see the whole batch. Raises OodmlError where that cannot be."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not several() or not norms:
        return
    if device.type != "cuda":
        raise OodmlError(
            "freeze_batch_norm = false needs the statistics of the whole batch, which several "
            "processes share on CUDA only; freeze it, or train in one process"
        )
    convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
    for name, child in model.named_children():
        setattr(model, name, convert(child))


def once(work: Callable[[], T]) -> T:
    """What `work` gives, computed by the leader for all; its error is an error of all."""
    if not several():
        return work()
    answer: list[Any] = [None, None]
    problem = None
    if leads():
        try:
            answer[0] = work()
        except Exception as error:
            problem, answer[1] = error, str(error)
    dist.broadcast_object_list(answer, 0, group=_team.side)
    if answer[1] is not None:
        raise problem or OodmlError(answer[1])
    return cast(T, answer[0])


def led(order: object, work: Callable[[], T]) -> T:
    """The leader's part of `work`, which the others do from the same order; see `orders`."""
    if not several():
        return work()
    dist.broadcast_object_list([order], 0, group=_team.side)
    return together(work)


def dismiss() -> None:
    """Tell the others that nothing is left to do."""
    if several():
        dist.broadcast_object_list([None], 0, group=_team.side)


def orders() -> Iterator[Any]:
    """What the leader tells the others to do, one after the other."""
    while True:
        order: list[Any] = [None]
        try:
            dist.broadcast_object_list(order, 0, group=_team.side)
        except RuntimeError as error:
            raise PartedError(f"process {_team.rank}: the leading process is gone") from error
        if order[0] is None:
            return
        yield order[0]


def together(work: Callable[[], T]) -> T:
    """Do what all do. An error that all meet is an ordinary one; else all processes end.

    A process that fails alone leaves the others waiting for it, so that it cannot go on.
    """
    problem, result = None, None
    try:
        result = work()
    except Exception as error:
        problem = error
    failed = _failures(problem)
    if problem is not None:
        raise problem
    if failed:
        raise OodmlError(f"another process failed: {failed[0]}")
    return cast(T, result)


def _failures(problem: Exception | None) -> list[str]:
    """The errors of all processes, once each has told whether it met one."""
    count = torch.tensor([int(problem is not None)])
    try:
        work = dist.all_reduce(count, group=_team.votes, async_op=True)
        work.wait(GRACE if problem else NEVER)
        told: list[Any] = [None] * _team.size
        if count.item():
            dist.all_gather_object(told, problem and str(problem), group=_team.votes)
    except RuntimeError as error:
        reason = problem or error
        raise PartedError(
            f"process {_team.rank} of {_team.size} stopped, and with it all: "
            f"{type(reason).__name__}: {reason}"
        ) from reason
    return [text for text in told if text is not None]
