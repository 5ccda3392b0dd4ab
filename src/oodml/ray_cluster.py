"""Tasks on Ray: on this machine, or on a cluster."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from oodml.errors import OodmlError, require

NODE_FAILURES = 100
"""How often a task is started again because its node died."""


@contextmanager
def connect(on: str, workers: int | None = None) -> Iterator[Any]:
    """Connect to Ray for a block of code, which gets the module `ray`.

    "ray" is the cluster of $RAY_ADDRESS or, without it, this machine with so many processors (by
    default all); "ray://HOST:PORT" is another one.

    Raises:
        OodmlError: if Ray is not installed or the cluster cannot be reached.
    """
    ray = require("ray", "ray")
    address = os.environ.get("RAY_ADDRESS") if on == "ray" else on
    try:
        ray.init(address=address, num_cpus=None if address else workers, log_to_driver=False)
    except ConnectionError as error:
        raise OodmlError(f"{address}: no Ray cluster answers", "executor", address) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def spread_on_ray(on: str, device: str) -> Iterator[Callable[..., Iterator[Any]]]:
    """A function as `itertools.starmap` that calls a function in tasks of a cluster, each with one
    processor and, for the device "cuda", one GPU."""
    with connect(on) as ray:
        yield partial(_starmap, ray, 1 if device.startswith("cuda") else 0)


def _starmap(
    ray: Any, gpus: int, function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]]
) -> Iterator[Any]:
    """The results in order; lists, which jobs share, travel to each node once."""
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=NODE_FAILURES)(function)
    window = 4 * max(1, int(ray.cluster_resources().get("CPU", 1)))
    shared: dict[int, tuple[Any, Any]] = {}  # with the list, so that its id stays in use
    pending: deque[Any] = deque()

    def put(argument: Any) -> Any:
        if not isinstance(argument, list):
            return argument
        if id(argument) not in shared:
            shared[id(argument)] = argument, ray.put(argument)
        return shared[id(argument)][1]

    def result() -> Any:
        try:
            return ray.get(pending.popleft())
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None

    for job in jobs:
        pending.append(task.remote(*map(put, job)))
        if len(pending) >= window:
            yield result()
    while pending:
        yield result()
