"""What a loss, miner, method, backbone or data set promises, each promise a plain function.

oodml's own are tested by these functions, and so is the user's own thing, by `oodml check`.
"""

from oodml.contract.check import check, kind_of
from oodml.contract.promise import Advice, Broken, Finding, NotPromised, kept

__all__ = ["Advice", "Broken", "Finding", "NotPromised", "check", "kept", "kind_of"]
