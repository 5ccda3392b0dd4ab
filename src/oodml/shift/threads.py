"""Limit linear algebra on small matrices to one thread.

With a few hundred rows, more threads are not faster, and on a busy machine they can take tens of
times longer because they wait for each other.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

_SMALL = 256


def limit_threads(size: int) -> AbstractContextManager[Any]:
    """A context that limits linear algebra to one thread if matrices have few (`size`) rows."""
    if size > _SMALL:
        return nullcontext()
    one_thread: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return one_thread


@cache
def _controller() -> Any:
    return ThreadpoolController()
