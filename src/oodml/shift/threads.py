"""One thread for small matrices.

Threads gain nothing on matrices of a few hundred rows and, on a machine that has other work too,
cost tens of times the computation in waiting for each other.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

_SMALL = 256


def threads_for(size: int) -> AbstractContextManager[Any]:
    """Within it, linear algebra on matrices with `size` rows has the threads that help it."""
    if size > _SMALL:
        return nullcontext()
    one_thread: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return one_thread


@cache
def _controller() -> Any:
    return ThreadpoolController()
