"""Distributed training: several processes that `torchrun` or `accelerate launch` starts.

Each process runs its share of a batch through the network; the features of the whole batch are
gathered, and every process computes the same head and loss. Only the leader claims runs and writes
files. In a process that runs alone, all functions do nothing or return their input.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from oodml.errors import OodmlError

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others within a run."""
FAILURE_TIMEOUT = timedelta(seconds=30)
"""How long a process that failed waits for the others to fail in the same way."""
NO_TIMEOUT = timedelta(days=365)
"""For messages from the leader, which may wait long for a run to claim."""


class ProcessGroup(NamedTuple):
    rank: int = 0
    size: int = 1
    messages: Any = None
    votes: Any = None


_group = ProcessGroup()


class OutOfSyncError(OodmlError):
    """The processes are out of sync; all of them exit."""


def join_processes(device: str) -> str:
    """Connect to the other processes, if there are any; return the device of this process."""
    global _group
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return device
    from accelerate import PartialState

    cpu = torch.device(device).type == "cpu"
    state = PartialState(cpu=cpu, timeout=TIMEOUT, **({"backend": "gloo"} if cpu else {}))
    messages, votes = (dist.new_group(backend="gloo", timeout=NO_TIMEOUT) for _ in range(2))
    _group = ProcessGroup(dist.get_rank(), dist.get_world_size(), messages, votes)
    return str(state.device)


def leave_processes() -> None:
    global _group
    if _group.size > 1:
        _group = ProcessGroup()
        dist.destroy_process_group()


def is_leader() -> bool:
    return _group.rank == 0


def is_distributed() -> bool:
    return _group.size > 1


def own_share(n: int) -> slice:
    """The rows of this process out of `n`; the shares of processes differ by at most one row."""
    if 0 < n < _group.size:
        problem = f"{n} images cannot be divided among {_group.size} processes"
        raise OodmlError(problem, "train.batch_size", n)
    bounds = _share_bounds(n)
    return slice(bounds[_group.rank], bounds[_group.rank + 1])


def _share_bounds(n: int) -> list[int]:
    least, remainder = divmod(n, _group.size)
    return [least * rank + min(rank, remainder) for rank in range(_group.size + 1)]


class _GatherFeatures(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, share: Tensor, n: int) -> Tensor:
        context.n = n
        return _gather_rows(share, n, None)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0][own_share(context.n)], None


def gather_features(share: Float[Tensor, "m f"], n: int) -> Float[Tensor, "n f"]:
    """The rows of all processes from the share of each; gradients reach only the own rows."""
    return cast(Tensor, _GatherFeatures.apply(share, n)) if is_distributed() else share


def gather_on_cpu(share: Float[Tensor, "m f"], n: int) -> Float[Tensor, "n f"]:
    """The rows of all processes from the share of each, on the CPU and without gradients."""
    return _gather_rows(share, n, _group.messages) if is_distributed() else share


def _gather_rows(share: Tensor, n: int, group: Any) -> Tensor:
    sizes = torch.diff(torch.tensor(_share_bounds(n))).tolist()
    padded = share.new_zeros(max(sizes), share.shape[1])
    padded[: len(share)] = share
    shares = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(shares, padded, group=group)
    return torch.cat([rows[:size] for rows, size in zip(shares, sizes, strict=True)])


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Sum the gradients of all processes, each from its share of the batch."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not is_distributed() or not gradients:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = torch.split(flat, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def broadcast_weights(*modules: nn.Module) -> None:
    """Copy the leader's weights to all processes, so that rounding cannot accumulate."""
    for module in modules if is_distributed() else ():
        for value in module.state_dict().values():
            if isinstance(value, Tensor):
                dist.broadcast(value, 0)


def synchronize_batch_norm(model: nn.Module, device: torch.device) -> None:
    """Make batch norm in training mode use the statistics of the whole batch."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not is_distributed() or not norms:
        return
    if device.type != "cuda":
        key, remedy = "model.freeze_batch_norm", "Remove the key, or train in one process"
        problem = "several processes can share batch statistics only on CUDA"
        raise OodmlError(f"{key} = false: {problem}. {remedy}.", key, False)
    convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
    for name, child in model.named_children():
        setattr(model, name, convert(child))


def compute_once(work: Callable[[], T]) -> T:
    """Compute `work` in the leader and return its result, or raise its error, in all processes."""
    if not is_distributed():
        return work()
    answer: list[Any] = [None, None]
    exception = None
    if is_leader():
        try:
            answer[0] = work()
        except Exception as error:
            exception, answer[1] = error, str(error)
    dist.broadcast_object_list(answer, 0, group=_group.messages)
    if answer[1] is not None:
        raise exception or OodmlError(answer[1])
    return cast(T, answer[0])


def lead_task(task: object, work: Callable[[], T]) -> T:
    """Send a task to the followers and do the leader's part of it; see `received_tasks`."""
    if not is_distributed():
        return work()
    dist.broadcast_object_list([task], 0, group=_group.messages)
    return run_on_all(work)


def dismiss_followers() -> None:
    if is_distributed():
        dist.broadcast_object_list([None], 0, group=_group.messages)


def received_tasks() -> Iterator[Any]:
    """Yield the leader's tasks in a follower, until the leader dismisses it."""
    while True:
        task: list[Any] = [None]
        try:
            dist.broadcast_object_list(task, 0, group=_group.messages)
        except RuntimeError as error:
            problem = f"process {_group.rank}: the leading process has exited"
            raise OutOfSyncError(problem) from error
        if task[0] is None:
            return
        yield task[0]


def run_on_all(work: Callable[[], T]) -> T:
    """Do the same work in all processes, and agree on whether it succeeded.

    An error of every process is raised as it is. If only some fail, all processes exit.
    """
    exception, result = None, None
    try:
        result = work()
    except Exception as error:
        exception = error
    count, messages = torch.tensor([int(exception is not None)]), list[Any]([None] * _group.size)
    try:
        vote = dist.all_reduce(count, group=_group.votes, async_op=True)
        vote.wait(FAILURE_TIMEOUT if exception else NO_TIMEOUT)
        if count.item():
            dist.all_gather_object(messages, exception and str(exception), group=_group.votes)
    except RuntimeError as error:
        reason, process = exception or error, f"process {_group.rank} of {_group.size}"
        problem = f"{process} failed, so all processes exit: {type(reason).__name__}: {reason}"
        raise OutOfSyncError(problem) from reason
    if exception is not None:
        raise exception
    if failures := [message for message in messages if message is not None]:
        raise OodmlError(f"another process failed: {failures[0]}")
    return cast(T, result)
