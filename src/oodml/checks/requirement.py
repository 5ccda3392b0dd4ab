"""A requirement: a function that raises `Violation` if a loss, miner, … does not meet it."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Make = Callable[..., Any]
"""Creates a new object, so that no requirement sees state that another one left behind."""
Requirement = Callable[[Make], None]
"""The first line of its docstring states the requirement."""
SUPPLIED = {"settings", "sizes", "weights", "n_classes", "dim", "generator"}
"""Arguments that the program supplies; all others are options of the user."""


class Violation(Exception):
    """A requirement is not met."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem, self.remedy = problem, remedy


class Advice(Violation):
    """A possible improvement; results are correct without it, so the check does not fail."""


class NotApplicable(Exception):
    """The requirement does not apply to the object; the message is the reason."""


def require(condition: object, problem: str, remedy: str) -> None:
    if not condition:
        raise Violation(problem, remedy)


def skip_unless(condition: object, reason: str) -> None:
    if not condition:
        raise NotApplicable(reason)


@dataclass(frozen=True)
class CheckResult:
    """The result of a requirement: ✓ (met), ✗ (not met), ! (advice), or – (not checked)."""

    requirement: str
    mark: str
    problem: str = ""
    remedy: str = ""

    @property
    def failed(self) -> bool:
        return self.mark == "✗"


def check_requirement(requirement: Requirement, make: Make) -> CheckResult:
    """Check one requirement. Any exception that the object raises is a failure."""
    text = describe(requirement)
    try:
        requirement(make)
    except NotApplicable as reason:
        return CheckResult(text, "–", str(reason))
    except Violation as violation:
        mark = "!" if isinstance(violation, Advice) else "✗"
        return CheckResult(text, mark, violation.problem, violation.remedy)
    except Exception as error:  # user code may raise anything
        trace, origin = error.__traceback__, ""
        while trace is not None:  # to the last line of code outside torch
            file = trace.tb_frame.f_code.co_filename
            if "/torch/" not in file and "<" not in file:
                origin = f"It was raised at {file}:{trace.tb_lineno}"
            trace = trace.tb_next
        return CheckResult(text, "✗", f"{type(error).__name__}: {error}", origin)
    return CheckResult(text, "✓")


def check_requirements(
    requirements: Iterable[Requirement], make: Make, basic: Iterable[Requirement]
) -> list[CheckResult]:
    """Check requirements in order, up to the first basic one that is not met."""
    results, skipped = list[CheckResult](), ""
    for requirement in requirements:
        text = describe(requirement)
        skip = CheckResult(text, "–", skipped)
        results.append(skip if skipped else check_requirement(requirement, make))
        if results[-1].failed and requirement in basic:
            skipped = f'not checked, because of: "{text}"'
    return results


def describe(requirement: Requirement) -> str:
    return (inspect.getdoc(requirement) or requirement.__name__).splitlines()[0].rstrip(".")


def check_docstring(make: Make) -> None:
    """Its docstring describes its options."""
    source = getattr(make, "source", make)
    text = " ".join(filter(None, (inspect.getdoc(source), inspect.getdoc(source.__init__))))
    options = set(inspect.signature(source).parameters) - SUPPLIED
    if missing := sorted(name for name in options if name not in text):
        remedy = "Describe each option there; it is the only documentation of the option"
        raise Advice(f"the docstring does not mention {', '.join(missing)}", remedy)


def close(a: float, b: float, relative: float, absolute: float = 1e-6) -> bool:
    return abs(a - b) <= absolute + relative * abs(b)
