"""The requirements on losses, miners, methods, backbones, and datasets, one function each.

The tests check oodml's own parts with them, and `oodml check` checks a user's.
"""

from oodml.checks.check import check, kind_of
from oodml.checks.requirement import Advice, CheckResult, NotApplicable, Violation

__all__ = ["Advice", "CheckResult", "NotApplicable", "Violation", "check", "kind_of"]
