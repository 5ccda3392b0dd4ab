"""Fingerprints of user code: what an import path or an entry point reaches outside this package.

Installed code is identified by the name and version of its distribution. Other code is identified
by a hash of its module (or whole package) and of every user module that it imports, directly or
indirectly.
"""

import ast
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from oodml import catalog
from oodml.errors import OodmlError
from oodml.files import content_hash

SUFFIXES = (".py", ".so", ".pyd")
"""Suffixes of the files of a package that are hashed."""
_IMPORT_PATH = re.compile(r"([^\W\d]\w*)(\.\w+)*:[^\W\d][\w.]*")


def code_fingerprints(*values: Any) -> dict[str, str]:
    """Return a fingerprint for each name in `values` that refers to user code."""
    fingerprints = {name: _fingerprint(module) for name, module in _user_names(values)}
    return {name: fingerprints[name] for name in sorted(fingerprints) if fingerprints[name]}


def user_code_names(*values: Any) -> list[str]:
    """The names in `values` that refer to code outside oodml, sorted. Nothing is imported."""
    return sorted({name for name, _ in _user_names(values)})


def class_fingerprints(kind: type) -> dict[str, str]:
    """Return the fingerprint of a user-defined class by its import path."""
    module = kind.__module__.replace("__mp_main__", "__main__")  # a script, in a worker process
    return {f"{module}:{kind.__qualname__}": _loaded_fingerprint(module.partition(".")[0])}


def code_folders(*values: Any) -> list[str]:
    """Return the folders that must be on the import path for the user code named in `values`."""
    specs = (spec for _, module in _user_names(values) for spec in _user_modules(module))
    return sorted({str(folder) for spec in specs for folder in _parent_folders(spec)})


def _user_names(values: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Names that refer to code outside oodml, each with its top-level module."""
    for text in _strings(values):
        for plugins in map(catalog.plugins, catalog.KINDS):
            if text in plugins:
                yield text, plugins[text].module.partition(".")[0]
        path = _IMPORT_PATH.fullmatch(text)
        if path and path[1] != "oodml":
            yield text, path[1]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    values = value.values() if isinstance(value, dict) else value
    for part in values if isinstance(value, dict | list | tuple) else ():
        yield from _strings(part)


def _fingerprint(module: str) -> str:
    """The fingerprint of a top-level module; "" if it does not exist."""
    spec = _find_spec(module)
    if spec is None and module == "__main__":
        problem = "code of an interactive session has no source file; move it to a module"
        raise OodmlError(problem, module)
    if spec is None or not _is_user_module(spec):
        return "" if spec is None else _distribution(spec.name)
    sources = sorted(source for user in _user_modules(module) for source in _sources(user))
    return content_hash(*(part for source in sources for part in source))[:16]


_loaded_fingerprint = cache(_fingerprint)
"""The fingerprint of loaded code, which later edits of its source do not change."""


def _user_modules(module: str) -> list[ModuleSpec]:
    """A user's top-level module and all user modules that it imports, directly or indirectly."""
    specs: list[ModuleSpec] = []
    pending, seen = [module], {"oodml"}
    while pending:
        name = pending.pop()
        spec = None if name in seen else _find_spec(name)
        seen.add(name)
        if spec is not None and _is_user_module(spec):
            specs.append(spec)
            pending += (other for _, text in _sources(spec) for other in _imported_modules(text))
    return specs


def _find_spec(name: str) -> ModuleSpec | None:
    main = sys.modules["__main__"]
    if name == "__main__" and main.__spec__ is None:  # the running script
        file = getattr(main, "__file__", None)
        if file is None or not Path(file).is_file():
            return None
        spec = ModuleSpec("__main__", None, origin=os.path.abspath(file))
        spec.has_location = True
        return spec
    if name == "__main__" and main.__spec__ is not None:  # the package that `python -m` runs
        name = main.__spec__.name.partition(".")[0]
    with suppress(ImportError, ValueError):  # a module without a spec
        return find_spec(name)
    return None


def _sources(spec: ModuleSpec) -> list[tuple[str, bytes]]:
    """The files of a module or package: relative path and content, without hidden files."""
    if not spec.submodule_search_locations:
        return [(spec.name, Path(str(spec.origin)).read_bytes())]
    sources = []
    for folder in map(Path, spec.submodule_search_locations):
        for file in folder.rglob("*"):
            path = file.relative_to(folder)
            if file.suffix in SUFFIXES and not any(part[0] == "." for part in path.parts):
                sources.append((f"{spec.name}/{path.as_posix()}", file.read_bytes()))
    return sources


def _parent_folders(spec: ModuleSpec) -> list[Path]:
    return [Path(path).parent for path in spec.submodule_search_locations or [str(spec.origin)]]


def _is_user_module(spec: ModuleSpec) -> bool:
    """Whether a module is a file outside the installed packages and the standard library."""
    if not spec.submodule_search_locations and not spec.has_location:
        return False
    parents, installed = _parent_folders(spec), _installed_folders()
    return not any(parent.is_relative_to(folder) for parent in parents for folder in installed)


@cache
def _installed_folders() -> tuple[Path, ...]:
    standard = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    folders = (*standard, *site.getsitepackages(), site.getusersitepackages())
    return tuple({Path(folder) for folder in folders})


@cache
def _distribution(module: str) -> str:
    if module in sys.stdlib_module_names:
        return f"python {sys.version_info.major}.{sys.version_info.minor}"
    with suppress(PackageNotFoundError):  # most distributions are named after their package
        return f"{module} {version(module)}"
    return ", ".join(f"{name} {version(name)}" for name in packages_distributions().get(module, ()))


def _imported_modules(text: bytes) -> Iterator[str]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # importing the file reports this error
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
