"""Showing how a study gets on, from what its folder says: the same for every kind of worker."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table as Grid
from rich.text import Text

from oodml.study.folder.status import Status, Watch, named, told_seconds
from oodml.study.folder.store import Store
from oodml.study.folder.table import Table

REFRESH = 1.0
"""Seconds between two looks at the folder."""
LINE_EVERY = 10.0
"""Seconds between two lines where the output is not a terminal."""
TABLE_EVERY = 60.0
"""Seconds between two writings of the table while a study runs."""
SHOWN = 8
"""Running runs that are named."""


@contextlib.contextmanager
def shown(store: Store, console: Console | None = None) -> Iterator[None]:
    """Show progress, and keep the table up to date, while the block runs."""
    done = threading.Event()
    arguments = (store, done, console or Console(stderr=True))
    thread = threading.Thread(target=_watch, args=arguments, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _watch(store: Store, done: threading.Event, console: Console) -> None:
    watch, table, written = Watch(store), Table(store), time.monotonic()
    with _display(console) as show:
        while not done.wait(REFRESH):
            with contextlib.suppress(OSError):  # a shared folder may be out of reach for a while
                show(watch.status())
            if time.monotonic() - written > TABLE_EVERY:
                with contextlib.suppress(ValueError, OSError):  # the writing at the end tells
                    table.write()
                written = time.monotonic()
        show(watch.status())


@contextlib.contextmanager
def _display(console: Console) -> Iterator[Callable[[Status], None]]:
    if not console.is_terminal:
        yield _Lines(console).show
        return
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        yield lambda status: live.update(drawn(status))


class _Lines:
    """Plain lines for logs: now and then, and when the study is through."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.last = float("-inf")
        self.told = ""

    def show(self, status: Status) -> None:
        through = not status.running and not status.missing
        if not through and time.monotonic() - self.last < LINE_EVERY:
            return
        if line(status) != self.told:
            self.told = line(status)
            self.console.print(self.told, highlight=False, soft_wrap=True)
        self.last = time.monotonic()


def line(status: Status) -> str:
    """One line: how many of how many, what runs, time left."""
    parts = [f"{len(status.done)} of {status.total} {status.unit} done"]
    if status.failed:
        parts.append(f"{len(status.failed)} failed")
    if status.running:
        parts.append("running " + "; ".join(named(one.run) for one in status.running[:SHOWN]))
    if status.remaining != 0:
        parts.append(f"left: {told_seconds(status.remaining)}")
    return ", ".join(parts)


def drawn(status: Status) -> Group:
    """The same as a bar and the runs below it."""
    settled = len(status.done) + len(status.failed)
    head = Grid.grid(padding=(0, 1))
    bar = ProgressBar(total=max(1, status.total), completed=settled, width=40)
    failed = f", [red]{len(status.failed)} failed[/red]" if status.failed else ""
    head.add_row(bar, f"{len(status.done)} of {status.total} {status.unit}{failed}",
                 f"left: {told_seconds(status.remaining)}")  # fmt: skip
    running = [Text(f"  {named(one.run)}  on {one.host}", "dim") for one in status.running[:SHOWN]]
    return Group(head, *running)
