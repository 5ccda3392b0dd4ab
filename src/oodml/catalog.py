"""Find a thing by its name: a file `oodml/<kind>/<name>.py` is the thing `<name>` of that kind.

Each file defines one object by the kind's name: a loss file a class `Loss`, a miner file a
class `Miner`, a method file a class `Method`, a backbone file a function `backbone`, a data-set
file a function `dataset`. Files whose name starts with `_` are helpers. Packages that are
installed beside oodml offer more names by entry points of the group `oodml.<kind>`. Instead of a
name, an import path `package.module:Object` reaches a thing of the user's own, and `pml.NAME` a
loss or miner of pytorch-metric-learning.
"""

import importlib
import inspect
import operator
import pkgutil
import sys
import warnings
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
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
    """The names that exist of a kind, one of `KINDS`, sorted: oodml's and those of entry points."""
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    return sorted([*_files(kind), *offered(kind)])


def offered(kind: str) -> Mapping[str, EntryPoint]:
    """What other installed packages add to a kind, by name; nothing of it is imported yet."""
    return _offered(kind, tuple(sys.path))


def make_importable(*folders: str | Path) -> None:
    """Let import paths reach the modules in these folders, behind everything that is installed.

    They come last, so that a file of the user's such as random.py hides no other module.
    """
    for folder in map(str, (Path(folder).resolve() for folder in folders)):
        if folder not in sys.path:
            sys.path.append(folder)


def find(kind: str, name: str) -> Any:
    """The class or function called `name` of a kind, or at the import path `name`."""
    if ":" in name:
        return _imported(name)
    if name.startswith("pml.") and kind in ("losses", "miners"):
        from oodml.losses._pml import adapted

        return adapted(kind, name.removeprefix("pml."))
    if name not in names(kind):
        raise unknown(kind.removesuffix("s").replace("losse", "loss"), name, names(kind))
    if name in _files(kind):
        return getattr(importlib.import_module(f"oodml.{kind}.{name}"), KINDS[kind])
    return _loaded(offered(kind)[name])


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


@cache
def _files(kind: str) -> frozenset[str]:
    package = importlib.import_module(f"oodml.{kind}")
    found = (module.name for module in pkgutil.iter_modules(package.__path__))
    return frozenset(name for name in found if not name.startswith("_"))


@cache
def _offered(kind: str, path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """The entry points on an import path; a name that is taken already is passed over, and told."""
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"oodml.{kind}"):
        holder = "oodml itself" if entry.name in _files(kind) else ""
        if entry.name in found and found[entry.name].value != entry.value:
            holder = told(found[entry.name])
        if holder or not entry.name.isidentifier():
            reason = f"{holder} has that name" if holder else "a name is one word, as in Python"
            warnings.warn(f"{told(entry)} in oodml.{kind} is ignored: {reason}", stacklevel=4)
        else:
            found[entry.name] = entry
    return found


def told(entry: EntryPoint) -> str:
    """An entry point in words: "'ours' of mylab 1.2"."""
    return f"{entry.name!r}" + (f" of {entry.dist.name} {entry.dist.version}" if entry.dist else "")


def _loaded(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # a module of someone else's fails in any way
        raise OodmlError(
            f"{told(entry)} cannot be imported from {entry.value!r}: "
            f"{type(error).__name__}: {error}"
        ) from error


def _imported(path: str) -> Any:
    module, _, attribute = path.partition(":")
    try:
        return operator.attrgetter(attribute)(importlib.import_module(module))
    except Exception as error:  # a module of the user's own fails in any way
        raise OodmlError(
            f"cannot import {path!r} (package.module:Object is expected): "
            f"{type(error).__name__}: {error}"
        ) from error
