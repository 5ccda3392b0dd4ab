"""Losses, miners, methods, backbones, datasets, and few-shot adapters by name.

The file `oodml/<kind>/<name>.py` defines `<name>` by the class or function of `KINDS`; files that
start with `_` are helpers. Installed packages add names through entry points of the group
`oodml.<kind>`. An import path `package.module:Object` names a user's own object, and `pml.NAME` a
loss or miner of pytorch-metric-learning.
"""

import importlib
import inspect
import pkgutil
import sys
import warnings
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from oodml.errors import OodmlError, unknown
from oodml.files import missing_study

KINDS = {
    "losses": "Loss", "miners": "Miner", "methods": "Method", "backbones": "backbone",
    "datasets": "dataset", "few_shot_adapters": "Adapter",
}  # fmt: skip


def names(kind: str) -> list[str]:
    """The sorted names of a kind, such as "losses", including those of installed packages."""
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    return sorted([*_files(kind), *plugins(kind)])


def plugins(kind: str) -> Mapping[str, EntryPoint]:
    """Entry points that installed packages add to a kind, by name. Nothing is imported."""
    return _plugins(kind, tuple(sys.path))


def make_importable(*folders: str | Path) -> None:
    """Append folders to the import path so that import paths can name modules in them."""
    for folder in map(str, (Path(folder).resolve() for folder in folders)):
        if folder not in sys.path:  # last, so a user's random.py hides no installed module
            sys.path.append(folder)


def get_class(kind: str, name: str) -> Any:
    """The class (for backbones and datasets, the function) behind a name."""
    if ":" in name:
        return import_object(name, missing_study(name) if kind == "backbones" else "")
    if name.startswith("pml.") and kind in ("losses", "miners"):
        from oodml.losses._pml import wrapper_of

        return wrapper_of(kind, name.removeprefix("pml."))
    if name not in names(kind):
        raise unknown(KINDS[kind].lower(), name, names(kind))
    if name in _files(kind):
        return getattr(importlib.import_module(f"oodml.{kind}.{name}"), KINDS[kind])
    entry = plugins(kind)[name]
    return _load_entry(entry, f"{_describe(entry)} from {entry.value!r}")


def import_object(path: str, hint: str = "") -> Any:
    """Import the object at `package.module:Object`; the error of a missing one ends in the hint."""
    description = f"{path!r} (expected package.module:Object)"
    return _load_entry(EntryPoint(path, path, ""), description, hint)


def load(kind: str, name: str, /, **options: Any) -> Any:
    """Create the object `name` of a kind with keyword arguments, which must exist, as in
    `load("losses", "margin", margin=0.1)`. The name is one of the catalog, an import path
    `package.module:Object`, or `pml.NAME`."""
    factory = get_class(kind, name)
    check_options(factory, options, f"{kind}.{name}")
    return factory(**options)


def check_options(factory: Any, options: Mapping[str, Any], location: str) -> None:
    """Raise `OodmlError` for options that are not in the signature of `factory`."""
    parameters = inspect.signature(factory).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for key in options:
        if key not in parameters:
            raise unknown("option", key, parameters, location)


@cache
def _files(kind: str) -> frozenset[str]:
    package = importlib.import_module(f"oodml.{kind}")
    files = (module.name for module in pkgutil.iter_modules(package.__path__))
    return frozenset(name for name in files if not name.startswith("_"))


@cache
def _plugins(kind: str, path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """The entry points on an import path. A taken or invalid name is ignored with a warning."""
    accepted: dict[str, EntryPoint] = {}
    for entry in entry_points(group=f"oodml.{kind}"):
        reason = "" if entry.name.isidentifier() else "the name is not a Python identifier"
        if entry.name in _files(kind):
            reason = "oodml itself has that name"
        elif entry.name in accepted and accepted[entry.name].value != entry.value:
            reason = f"{_describe(accepted[entry.name])} has that name"
        if reason:
            warnings.warn(f"ignoring {_describe(entry)} in oodml.{kind}: {reason}", stacklevel=4)
        else:
            accepted[entry.name] = entry
    return accepted


def _describe(entry: EntryPoint) -> str:
    """An entry point with its distribution, such as "'ours' of mylab 1.2"."""
    return f"{entry.name!r}" + (f" of {entry.dist.name} {entry.dist.version}" if entry.dist else "")


def _load_entry(entry: EntryPoint, description: str, hint: str = "") -> Any:
    try:
        return entry.load()
    except Exception as error:  # code of others may raise anything
        problem = f"could not import {description}: {type(error).__name__}: {error}.{hint}"
        raise OodmlError(problem, given=entry.name) from error
