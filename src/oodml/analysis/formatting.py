"""Numbers as text: levels in percent, differences in points, and probabilities.

The values of metrics of quality, which are at most 1, are shown in percent, and differences
between them in (percentage) points. Other metrics are shown as plain numbers.
"""

from collections.abc import Sequence
from math import isfinite

from oodml.evaluate.registry import find_metric

MISSING = "–"


def format_number(value: float | None, digits: int = 3, sign: bool = False) -> str:
    """A number with a true minus sign; "–" if it is missing."""
    if value is None or not isfinite(value):
        return MISSING
    return f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}".replace("-", "−")


def format_percent(share: float | None, digits: int = 1) -> str:
    """A share or level between 0 and 1 in percent: "86.6%"."""
    text = format_number(None if share is None else 100 * share, digits)
    return text if text == MISSING else f"{text}%"


def format_points(difference: float | None, sign: bool = False) -> str:
    """A difference of levels, times 100, without the unit: "2.4"."""
    return format_number(None if difference is None else 100 * difference, 1, sign)


def is_percent(metric: str) -> bool:
    """Whether values of a metric are shown in percent."""
    known = find_metric(metric)
    is_share = known.is_quality or known.family in ("open_set", "compression")
    return is_share and known.bounds[1] == 1.0


def format_level(value: float | None, metric: str) -> str:
    """A value of a metric: "86.6%"."""
    return format_percent(value) if is_percent(metric) else format_number(value)


def format_difference(value: float | None, metric: str, sign: bool = False) -> str:
    """A difference between two values of a metric, in points: "2.4"."""
    return format_points(value, sign) if is_percent(metric) else format_number(value, 3, sign)


def format_interval(low: float, high: float, metric: str, difference: bool = False) -> str:
    """The bounds of an interval: "84.1 to 88.0%", or "1.2 to 3.4" for a difference."""
    if not (isfinite(low) and isfinite(high)):
        return MISSING
    if not difference:  # a Student interval of a level may pass the metric's bounds
        least, most = find_metric(metric).bounds
        low, high = max(low, least), min(high, most)
    text = f"{format_difference(low, metric)} to {format_difference(high, metric)}"
    return f"{text}%" if is_percent(metric) and not difference else text


def format_probability(probability: float) -> str:
    """A probability in percent, with more digits near 1."""
    if probability > 0.999:
        return "over 99.9%"
    return format_percent(probability, 1 if probability > 0.99 else 0)


def format_list(names: Sequence[str]) -> str:
    """Names as an enumeration: "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
