"""Live progress of a study, read from its folder: the same for every executor."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from oodml.progress import format_duration
from oodml.study.folder.claims import in_background
from oodml.study.folder.status import Status, StatusReader
from oodml.study.folder.store import Store
from oodml.study.folder.table import ResultsTable

REFRESH = 1.0
"""Seconds between two readings of the folder."""
LINE_EVERY = 10.0
"""Seconds between two lines where the output is not a terminal."""
TABLE_EVERY = 60.0
"""Seconds between two updates of the results table while a study runs."""
MAX_RUNNING = 8
"""Number of running runs that are listed."""


def live_progress(
    store: Store, console: Console | None = None
) -> contextlib.AbstractContextManager[None]:
    return in_background("progress", partial(_watch, store, console or Console(stderr=True)))


def _watch(store: Store, console: Console, done: threading.Event) -> None:
    reader, table, written = StatusReader(store), ResultsTable(store), time.monotonic()
    with _display(console) as show:
        while not done.wait(REFRESH):
            with contextlib.suppress(OSError):  # a shared folder may be out of reach for a while
                show(reader.status())
            if time.monotonic() - written > TABLE_EVERY:
                with contextlib.suppress(ValueError, OSError):  # the final update reports errors
                    table.write()
                written = time.monotonic()
        show(reader.status())


@contextlib.contextmanager
def _display(console: Console) -> Iterator[Callable[[Status], None]]:
    """On a terminal, live bars; else lines, one every few seconds."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=False) as live:
            yield lambda status: live.update(render_status(status))
        return
    printed, last = float("-inf"), ""

    def show(status: Status) -> None:
        nonlocal printed, last
        left = status.running or status.missing  # at the end, the caller states the outcome
        if not left or time.monotonic() - printed < LINE_EVERY:
            return
        if (line := format_progress(status)) != last:
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        printed, last = time.monotonic(), line

    yield show


def format_progress(status: Status) -> str:
    smoke = "smoke test: " if status.smoke else ""
    names = "; ".join(one.run.description for one in status.running[:MAX_RUNNING])
    parts = {
        f"{smoke}{len(status.done)} of {status.total} {status.unit} done": True,
        f"{len(status.failed)} failed": status.failed,
        f"running {names}": status.running,
        f"left: {format_duration(status.remaining)}": status.remaining != 0,
    }
    return ", ".join(part for part, applies in parts.items() if applies)


def render_status(status: Status) -> Group:
    settled = len(status.done) + len(status.failed)
    head = Grid.grid(padding=(0, 1))
    bar = ProgressBar(total=max(1, status.total), completed=settled, width=40)
    failed = f", [red]{len(status.failed)} failed[/red]" if status.failed else ""
    count = f"{len(status.done)} of {status.total} {status.unit}{failed}"
    head.add_row(bar, count, f"left: {format_duration(status.remaining)}")
    running = (f"  {one.run.description}  on {one.host}" for one in status.running[:MAX_RUNNING])
    return Group(head, *(Text(line, "dim") for line in running))
