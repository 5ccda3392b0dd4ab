"""One look for page and paper: a colour and a mark for each method, told apart by both."""

from collections.abc import Sequence
from typing import NamedTuple

from oodml.analysis.table import BASELINE

LIGHT = (
    "#0064ad", "#c24a00", "#00795a", "#a8457f", "#8a6100", "#5b48a2", "#1f7f9c", "#7a3b1d",
)  # fmt: skip
DARK = (
    "#62aeea", "#ff9155", "#43c99c", "#ea9aca", "#e0b048", "#b3a4ee", "#7fd6ee", "#d79a76",
)  # fmt: skip
GREY = ("#6b6b66", "#9c9a93")
MARKS = (
    ("circle", "o"), ("square", "s"), ("diamond", "D"), ("triangle-up", "^"),
    ("triangle-down", "v"), ("pentagon", "p"), ("hexagon", "h"), ("star", "*"),
)  # fmt: skip


class Look(NamedTuple):
    """How a method is drawn: `light` and `dark` colour, mark for plotly and for matplotlib."""

    light: str
    dark: str
    symbol: str
    marker: str
    dash: str


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """A look for each method, by its place among all; the frozen baseline is grey.

    Eight colours of Okabe and Ito's order, darkened or lightened to stand 3:1 and more against
    paper and night; a ninth method takes the first colour with another mark and broken line.
    """
    trained = [name for name in methods if name != BASELINE]
    found = {name: Look(*GREY, "x", "x", "dot") for name in methods if name == BASELINE}
    for place, name in enumerate(trained):
        turn, colour = divmod(place, len(LIGHT))
        symbol, marker = MARKS[(colour + turn) % len(MARKS)]
        found[name] = Look(
            LIGHT[colour], DARK[colour], symbol, marker, ("solid", "dash", "dashdot")[turn % 3]
        )
    return found
