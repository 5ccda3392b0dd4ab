"""The requirements on losses, miners, methods, …: the tests and `oodml check` apply them."""

from oodml.checks.check import check, kind_of
from oodml.checks.requirement import Advice, CheckResult, NotApplicable, Violation

__all__ = ["Advice", "CheckResult", "NotApplicable", "Violation", "check", "kind_of"]
