"""Studies whose runs are each trained by several processes, started with `torchrun`."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from oodml import distributed
from oodml.devices import resolve_device
from oodml.study.folder.store import Store
from oodml.study.prepare import Context, open_context

T = TypeVar("T")


def lead_or_follow(lead: Callable[[str], T], device: str | None, threads: int | None) -> T | None:
    """Call `lead` with its device in the leading process; follow it in the others."""
    own_device = distributed.join_processes(str(resolve_device(device)))
    result = None
    if distributed.is_leader():
        result = lead(own_device)
        distributed.dismiss_followers()
    else:
        follow(own_device, threads)
    distributed.leave_processes()
    return result


def follow(device: str, threads: int | None) -> None:
    """Take part in every run that the leading process executes, and write nothing."""
    if threads is not None:
        torch.set_num_threads(threads)
    contexts: dict[Path, Context] = {}
    for folder, run, execute in distributed.received_tasks():
        if folder not in contexts:
            contexts[folder] = open_context(Store(folder), device)
        context = contexts[folder]
        with tempfile.TemporaryDirectory() as scratch:
            share = partial(execute, context.run(run), context, Path(scratch))
            try:
                distributed.run_on_all(share)
            except distributed.OutOfSyncError:
                raise
            except Exception:  # an error of all processes, which the leader records
                continue
