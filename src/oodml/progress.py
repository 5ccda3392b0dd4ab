"""Progress of steps over `DELAY` seconds, on standard error: a bar on a terminal, or lines."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TextIO, TypeVar

DELAY = 5.0
"""Seconds before a step shows its progress."""
INTERVAL = 10.0
"""Seconds between two lines where there is no terminal."""

T = TypeVar("T")
Observer = Callable[["Progress"], object]

_enabled: ContextVar[bool] = ContextVar("progress", default=True)
_suffix: ContextVar[str] = ContextVar("suffix", default="")
_observers: ContextVar[tuple[Observer, ...]] = ContextVar("observers", default=())


@contextlib.contextmanager
def _setting(variable: ContextVar[T], value: T) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def hide_progress() -> contextlib.AbstractContextManager[None]:
    """Show no progress in this context, as in worker processes, whose study shows its own."""
    return _setting(_enabled, False)


def name_progress(suffix: str) -> contextlib.AbstractContextManager[None]:
    """Add text such as ", view 2 of 5" to the descriptions of steps in this context."""
    return _setting(_suffix, suffix)


def observe_progress(observer: Observer) -> contextlib.AbstractContextManager[None]:
    """Call `observer` whenever a step in this context advances; its exceptions stop the step."""
    return _setting(_observers, (*_observers.get(), observer))


class Progress:
    """The progress of a step of `total` units (None: unknown), as a context manager."""

    def __init__(
        self,
        description: str,
        total: int | None,
        unit: str = "images",
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.description, self.total, self.unit = description + _suffix.get(), total, unit
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
        self.done += count
        for observer in _observers.get():
            observer(self)
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
        rate = self.done / max(now - self.started, 1e-9)
        total = f" of {self.total}" if self.total else ""
        text = f"{self.description}: {self.done}{total} {self.unit}"
        if rate >= 1:
            text += f", {rate:.3g}/s" if rate < 100 else f", {rate:.0f}/s"
        if self.total and rate:
            text += f", {format_duration((self.total - self.done) / rate)} left"
        return text

    def _is_terminal(self) -> bool:
        return bool(getattr(self.stream, "isatty", lambda: False)())


def track(
    items: Iterable[T], description: str, total: int | None, unit: str = "images"
) -> Iterator[T]:
    """Yield items and show the progress; see `Progress`."""
    with Progress(description, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def format_duration(seconds: float | None) -> str:
    """A duration as text: "0.4 s", "45 s", "3 min 20 s", "5 h 2 min", "2 d 8 h", or "unknown"."""
    if seconds is None:
        return "unknown"
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole, steps = round(seconds), ((2, 86400, 3600, "d", "h"), (1, 3600, 60, "h", "min"))
    for least, large, small, unit, part in (*steps, (1, 60, 1, "min", "s")):
        if whole >= least * large:
            count, rest = divmod(round(whole / small), large // small)
            return f"{count} {unit} {rest} {part}" if rest else f"{count} {unit}"
    return f"{whole} s"


def format_size(size: float) -> str:
    """Bytes as text, such as "3.1 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def count_noun(count: int, noun: str) -> str:
    """A count with its noun, as "1 run", "1,200 runs", "2 classes", or "3 queries"."""
    plural = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}{'e' * noun.endswith('s')}s"
    return f"{count:,} {noun if count == 1 else plural}"
