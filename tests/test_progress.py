"""Progress: silent for short steps, one line per interval without a terminal."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oodml.progress import (
    DELAY,
    INTERVAL,
    Progress,
    count_noun,
    format_duration,
    hide_progress,
    name_progress,
)


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def advance(stream: io.StringIO, seconds: float, steps: int) -> str:
    clock = Clock()
    with Progress("Features", steps, stream=stream, clock=clock) as progress:
        for _ in range(steps):
            clock.now += seconds
            progress.advance()
    return stream.getvalue()


def test_a_short_step_is_silent() -> None:
    assert advance(io.StringIO(), (DELAY - 1) / 10, 10) == ""


def test_a_long_step_writes_a_line_per_interval() -> None:
    lines = advance(io.StringIO(), 1.0, 60).splitlines()
    assert len(lines) == 1 + int((60 - DELAY) // INTERVAL)
    assert "5 of 60 images" in lines[0]
    assert "1/s" in lines[0]
    assert "55 s left" in lines[0]


def test_a_terminal_is_cleared_at_the_end() -> None:
    text = advance(Terminal(), 1.0, 10)
    assert "\n" not in text
    assert text.endswith("\r\x1b[2K")


def test_progress_can_be_hidden() -> None:
    with hide_progress():
        assert advance(io.StringIO(), 1.0, 60) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "unknown"),
        (0.44, "0.4 s"),
        (59, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (18120, "5 h 2 min"),
        (2e5, "2 d 8 h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, 1e8))
@settings(deadline=None, max_examples=50)
def test_any_duration_has_at_most_two_parts(seconds: float) -> None:
    assert 1 <= len(format_duration(seconds).split()) // 2 <= 2


def test_slow_steps_have_no_rate_and_repeated_ones_a_name() -> None:
    with name_progress(", view 2 of 5"):
        progress = Progress("Embedding", 4, clock=lambda: 0.0)
    progress.done = 2
    assert progress.describe(20.0) == "Embedding, view 2 of 5: 2 of 4 images, 20 s left"
    assert "2/s" in progress.describe(1.0)


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [(1, "class", "1 class"), (0, "class", "0 classes"), (2, "query", "2 queries"),
     (1200, "image", "1,200 images")],
)  # fmt: skip
def test_counts_have_their_plural(count: int, noun: str, text: str) -> None:
    assert count_noun(count, noun) == text
