"""Progress of long steps: a bar on a terminal, a line every few seconds elsewhere.

Nothing appears for steps that take less than `DELAY` seconds. Output goes to standard error.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TextIO

DELAY = 5.0
"""Seconds before a step shows its progress."""
INTERVAL = 10.0
"""Seconds between two lines where there is no terminal."""

_enabled: ContextVar[bool] = ContextVar("progress", default=True)


@contextlib.contextmanager
def hide_progress() -> Iterator[None]:
    """Show no progress in this context, as in worker processes, whose study shows its own."""
    token = _enabled.set(False)
    try:
        yield
    finally:
        _enabled.reset(token)


class Progress:
    """The progress of one step; use it as a context manager and call `advance`.

    Args:
        description: what is being done, such as "Features of lite0".
        total: the number of units, or None if it is unknown.
        unit: what is counted, in the plural.
        stream: where to write; standard error by default.
        clock: the current time in seconds.
    """

    def __init__(
        self,
        description: str,
        total: int | None,
        unit: str = "images",
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.stream = sys.stderr if stream is None else stream
        self.clock = clock
        self.done = 0
        self.started = self.shown = clock()
        self.visible = False

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        if self.visible and self._is_terminal():
            self.stream.write("\r\x1b[2K")
            self.stream.flush()

    def advance(self, count: int = 1) -> None:
        """Add finished units, and show the progress if it is time to."""
        self.done += count
        now = self.clock()
        if not _enabled.get() or now - self.started < DELAY:
            return
        terminal = self._is_terminal()
        if self.visible and now - self.shown < (0.2 if terminal else INTERVAL):
            return
        self.visible, self.shown = True, now
        text = self.describe(now)
        self.stream.write(f"\r\x1b[2K{text}" if terminal else f"{text}\n")
        self.stream.flush()

    def describe(self, now: float) -> str:
        """The state as text: units done, rate, and time left."""
        seconds = max(now - self.started, 1e-9)
        rate = self.done / seconds
        text = f"{self.description}: {self.done}"
        if self.total:
            text += f" of {self.total}"
        text += f" {self.unit}, {rate:.3g}/s" if rate < 100 else f" {self.unit}, {rate:.0f}/s"
        if self.total and rate:
            text += f", {format_duration((self.total - self.done) / rate)} left"
        return text

    def _is_terminal(self) -> bool:
        return bool(getattr(self.stream, "isatty", lambda: False)())


def format_duration(seconds: float) -> str:
    """A duration for a person, such as "45 s", "12 min", "3 h 5 min", or "2 d 4 h"."""
    whole = round(max(seconds, 0.0))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(round(hours + minutes / 60), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
