"""The style of figures and pages, and of each method: a color, a marker, and a line dash."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from importlib.resources import files
from typing import NamedTuple

LIGHT = (
    "#0064ad", "#c24a00", "#00795a", "#a8457f", "#8a6100", "#5b48a2", "#1f7f9c", "#7a3b1d",
    "#d0103a", "#5f8a00", "#16255c", "#c026d3",
)  # fmt: skip
DARK = (
    "#62aeea", "#ff9155", "#43c99c", "#ea9aca", "#e0b048", "#b3a4ee", "#7fd6ee", "#d79a76",
    "#ff6b7f", "#b5d84c", "#7d8bff", "#f07bff",
)  # fmt: skip
BASELINE_COLORS = ("#6b6b66", "#9c9a93")
MARKERS = (
    ("circle", "o"), ("square", "s"), ("diamond", "D"), ("triangle-up", "^"),
    ("triangle-down", "v"), ("pentagon", "p"), ("hexagon", "h"), ("star", "*"),
)  # fmt: skip
BASELINE_MARKERS = (("x", "x"), ("cross", "P"))
DASHES = ("solid", "dash", "dashdot")


def asset(name: str) -> str:
    """A file of the page's assets."""
    return files("oodml.report").joinpath("assets", name).read_text("utf-8")


def paper_style() -> AbstractContextManager[None]:
    """Matplotlib settings for print: small type, thin lines, no frame."""
    from matplotlib import style

    return style.context(str(files("oodml.report").joinpath("assets", "paper.mplstyle")))


class Style(NamedTuple):
    """How a method is drawn: its colors on two backgrounds, its markers, and its plotly dash."""

    light: str
    dark: str
    symbol: str
    marker: str
    dash: str


def method_styles(methods: Sequence[str], baselines: Collection[str]) -> dict[str, Style]:
    """A style for each method by its position; baselines are gray and dotted.

    The first eight colors follow Okabe and Ito; all twelve have a contrast of at least 3:1 on
    both backgrounds. A ninth method has another dash, and a thirteenth reuses the first color.
    """
    styles = {}
    for position, name in enumerate(name for name in methods if name in baselines):
        marker = BASELINE_MARKERS[position % len(BASELINE_MARKERS)]
        styles[name] = Style(*BASELINE_COLORS, *marker, "dot")
    for position, name in enumerate(name for name in methods if name not in baselines):
        color, turn = position % len(LIGHT), position // len(MARKERS)
        marker = MARKERS[(position + turn) % len(MARKERS)]
        styles[name] = Style(LIGHT[color], DARK[color], *marker, DASHES[turn % len(DASHES)])
    return styles
