"""The user's own code that numbers depend on, known by a hash of its source.

Own is what an import path or an entry point reaches outside this package. Where it is installed,
its distribution's name and version stand for it; else the source of its module or, in a package,
of the whole package, and of every module of the user's that these import. Of compiled modules the
file itself counts.
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
"""Of the files of a package that count."""
_PATH = re.compile(r"([^\W\d]\w*)(\.\w+)*:[^\W\d][\w.]*")


def code_fingerprints(*values: Any) -> dict[str, str]:
    """What stands for the code behind each own name in `values`, by that name.

    values: names of things, and options, in which names may lie however deep. Raises OodmlError
    for a name of an interactive session, whose source can't be told.
    """
    found = {name: _stamp(top) for name, top in _own_names(values)}
    return {name: found[name] for name in sorted(found) if found[name]}


def class_fingerprints(kind: type) -> dict[str, str]:
    """What stands for the code of a class of the user's own, by its import path."""
    module = kind.__module__.replace("__mp_main__", "__main__")  # the script, in a worker
    return {f"{module}:{kind.__qualname__}": _loaded_stamp(module.partition(".")[0])}


def code_folders(*values: Any) -> list[str]:
    """The folders that have to be importable for the own names in `values`, sorted."""
    places = set()
    for _, top in _own_names(values):
        for spec in _local_modules(top):
            places |= {str(folder) for folder in _roots(spec)}
    return sorted(places)


def _own_names(values: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Each own name with the top-level module behind it."""
    for text in _texts(values):
        for kind in catalog.KINDS:
            if text in catalog.plugins(kind):
                yield text, catalog.plugins(kind)[text].module.partition(".")[0]
        path = _PATH.fullmatch(text)
        if path and path[1] != "oodml":
            yield text, path[1]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)


def _stamp(top: str) -> str:
    spec = _spec(top)
    if spec is None and top == "__main__":
        raise OodmlError(
            "code that is written in an interactive session can't be told from its next version; "
            "put it into a module"
        )
    if spec is None:
        return ""
    if not _is_local(spec):
        return _version(spec.name)
    sources = sorted(source for module in _local_modules(top) for source in _sources(module))
    return content_hash(*(part for source in sources for part in source))[:16]


@cache
def _loaded_stamp(top: str) -> str:
    """Of code that is loaded, and stays what it is, whatever becomes of its source."""
    return _stamp(top)


def _local_modules(top: str) -> list[ModuleSpec]:
    """A top-level module of the user's and all those that it imports, however far."""
    found: list[ModuleSpec] = []
    waiting, seen = [top], {"oodml"}
    while waiting:
        name = waiting.pop()
        spec = None if name in seen else _spec(name)
        seen.add(name)
        if spec is not None and _is_local(spec):
            found.append(spec)
            waiting += (other for _, text in _sources(spec) for other in _imports(text))
    return found


def _spec(name: str) -> ModuleSpec | None:
    if name == "__main__":
        return _main_spec()
    try:
        return find_spec(name)
    except (ImportError, ValueError):  # a module without a spec
        return None


def _main_spec() -> ModuleSpec | None:
    """Of the script that is run, or of the package in which `python -m` found it."""
    main = sys.modules["__main__"]
    if main.__spec__ is not None:
        return _spec(main.__spec__.name.partition(".")[0])
    file = getattr(main, "__file__", None)
    if file is None or not Path(file).is_file():
        return None
    spec = ModuleSpec("__main__", None, origin=os.path.abspath(file))
    spec.has_location = True
    return spec


def _sources(spec: ModuleSpec) -> list[tuple[str, bytes]]:
    """The source files of a module or package: where they lie in it, and what they say."""
    if not spec.submodule_search_locations:
        return [(spec.name, Path(str(spec.origin)).read_bytes())]
    files = (
        (file, file.relative_to(folder))
        for folder in map(Path, spec.submodule_search_locations)
        for file in folder.rglob("*")
        if file.suffix in SUFFIXES
    )
    return [
        (f"{spec.name}/{inside.as_posix()}", file.read_bytes())
        for file, inside in files
        if not any(part.startswith(".") for part in inside.parts)
    ]


def _roots(spec: ModuleSpec) -> list[Path]:
    """The folders of the import path that a module or package lies in."""
    places = spec.submodule_search_locations or [str(spec.origin)]
    return [Path(place).parent for place in places]


def _is_local(spec: ModuleSpec) -> bool:
    """Whether a module lies in a file that is neither installed nor of Python's own library."""
    if not spec.submodule_search_locations and not spec.has_location:
        return False
    installed = _installed()
    return not any(root.is_relative_to(place) for root in _roots(spec) for place in installed)


@cache
def _installed() -> tuple[Path, ...]:
    named = (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    found = (*named, *site.getsitepackages(), site.getusersitepackages())
    return tuple({Path(path) for path in found})


@cache
def _version(top: str) -> str:
    """A distribution's name and version; Python's for what comes with it."""
    if top in sys.stdlib_module_names:
        return f"python {sys.version_info.major}.{sys.version_info.minor}"
    with suppress(PackageNotFoundError):  # most have the name of their package
        return f"{top} {version(top)}"
    return ", ".join(f"{name} {version(name)}" for name in packages_distributions().get(top, ()))


def _imports(text: bytes) -> Iterator[str]:
    """The top-level modules that a source file imports from outside its package."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):  # it fails when it is imported, with its own words
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
