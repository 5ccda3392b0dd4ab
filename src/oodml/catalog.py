"""Find a thing by its name: a file `oodml/<kind>/<name>.py` is the thing `<name>` of that kind.

Each file defines one object by the kind's name: a loss file a class `Loss`, a miner file a
class `Miner`, a method file a class `Method`, a backbone file a function `backbone`, a data-set
file a function `dataset`. Files whose name starts with `_` are helpers. Instead of a name, an
import path `package.module:Object` reaches a thing of the user's own, and `pml.NAME` a loss or
miner of pytorch-metric-learning.
"""

import importlib
import inspect
import pkgutil
from typing import Any

from oodml.errors import OodmlError, unknown

KINDS = {
    "losses": "Loss",
    "miners": "Miner",
    "methods": "Method",
    "backbones": "backbone",
    "datasets": "dataset",
}


def names(kind: str) -> list[str]:
    """The names that exist of a kind, one of `KINDS`, sorted."""
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    package = importlib.import_module(f"oodml.{kind}")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in found if not name.startswith("_"))


def find(kind: str, name: str) -> Any:
    """The class or function called `name` of a kind, or at the import path `name`."""
    if ":" in name:
        return _imported(name)
    if name.startswith("pml.") and kind in ("losses", "miners"):
        from oodml.losses._pml import adapted

        return adapted(kind, name.removeprefix("pml."))
    if name not in names(kind):
        raise unknown(kind.removesuffix("s").replace("losse", "loss"), name, names(kind))
    return getattr(importlib.import_module(f"oodml.{kind}.{name}"), KINDS[kind])


def load(kind: str, name: str, /, **options: Any) -> Any:
    """Make the thing `name` of a kind with its options, e.g. `load("losses", "margin", margin=.1)`.

    Raises `OodmlError` naming what is allowed if the name or an option does not exist.
    """
    thing = find(kind, name)
    check_options(thing, options, f"{kind}.{name}")
    return thing(**options)


def check_options(thing: Any, options: dict[str, Any], where: str) -> None:
    """Refuse options that the signature of `thing` does not have."""
    parameters = inspect.signature(thing).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for key in options:
        if key not in parameters:
            raise unknown("option", key, parameters, where)


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise OodmlError(
            f"cannot import {path!r} (package.module:Object is expected): {error}"
        ) from error
