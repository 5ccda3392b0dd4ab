"""A study whose runs are each trained by several processes, which `torchrun` started."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from oodml import distributed
from oodml.embedding import default_device
from oodml.study.folder.store import Store
from oodml.study.prepare import Context, open_context
from oodml.study.workers.work import Execute

T = TypeVar("T")


def as_team(lead: Callable[[str], T], device: str | None, threads: int | None) -> T | None:
    """What `lead` gives on its device; None in a process that does what the leading one tells.

    A process by itself leads nobody.
    """
    place = distributed.join(device or str(default_device()))
    result = None
    if distributed.leads():
        result = lead(place)
        distributed.dismiss()
    else:
        follow(place, threads)
    distributed.leave()
    return result


def follow(device: str, threads: int | None) -> None:
    """Do one's part of every run that the leading process does; keep nothing of it."""
    if threads is not None:
        torch.set_num_threads(threads)
    contexts: dict[Path, Context] = {}
    for folder, planned, execute in distributed.orders():
        if folder not in contexts:
            contexts[folder] = open_context(Store(folder), device)
        _do_part(execute, contexts[folder], planned)


def _do_part(execute: Execute, context: Context, planned: dict[str, Any]) -> None:
    """One's part of a run; if all processes meet an error, the leading one records it."""
    with tempfile.TemporaryDirectory() as nowhere:
        try:
            distributed.together(lambda: execute(context.run(planned), context, Path(nowhere)))
        except distributed.PartedError:
            raise
        except Exception:
            return
