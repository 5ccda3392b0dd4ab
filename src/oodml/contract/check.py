"""Try every promise of a thing that a name or an import path reaches."""

import inspect
import typing
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch

from oodml import catalog
from oodml.contract.promise import Finding, Promise, kept
from oodml.errors import OodmlError, unknown


class Maker:
    """Makes a thing of the catalogue anew with its options, and what else its kind is given."""

    def __init__(self, kind: str, name: str, options: Mapping[str, Any]) -> None:
        self.kind, self.name, self.options = kind, name, dict(options)
        self.thing = catalog.find(kind, name)

    def __call__(self, **given: Any) -> Any:
        """The thing. given: the sizes of a method, the weights of a backbone."""
        if self.kind == "losses":
            from oodml.contract.losses import SIZES

            sizes = SIZES | {"generator": torch.Generator().manual_seed(1)}
            accepted = inspect.signature(self.thing).parameters
            given = {key: value for key, value in sizes.items() if key in accepted}
        return catalog.load(self.kind, self.name, **given | self.options)

    def lacks(self) -> list[str]:
        """The options without a default that were not given, and that no run gives."""
        by_runs = {"losses": ("n_classes", "dim", "generator"), "methods": ("sizes",)}
        known = (*self.options, *by_runs.get(self.kind, ()))
        return [
            parameter.name
            for parameter in inspect.signature(self.thing).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
            and parameter.name not in known
        ]


def promises(kind: str) -> tuple[Promise, ...]:
    """What a thing of a kind promises."""
    if kind not in catalog.KINDS:
        raise unknown("kind", kind, catalog.KINDS)
    return typing.cast(tuple[Promise, ...], import_module(f"oodml.contract.{kind}").PROMISES)


def check(
    name: str, kind: str | None = None, options: Mapping[str, Any] | None = None
) -> list[Finding]:
    """How each promise of a thing stands.

    name: of the catalogue, or an import path. kind: one of `catalog.KINDS`; found by what the
    thing is, if not given. options: to make it with. Raises `OodmlError` if it cannot be made.
    """
    kind = kind or kind_of(name)
    wanted = promises(kind)
    make = Maker(kind, name, options or {})
    catalog.check_options(make.thing, make.options, name)
    if lacking := make.lacks():
        said = " ".join(f"--option {option}=…" for option in lacking)
        raise OodmlError(f"{name}: it cannot be made without {', '.join(lacking)}; give {said}")
    with torch.random.fork_rng(devices=[]):
        return [kept(promise, make) for promise in wanted]


def kind_of(name: str) -> str:
    """The kind of a thing, by its place in the catalogue or else by what it is."""
    if ":" not in name:
        kinds = [kind for kind in catalog.KINDS if name in catalog.names(kind)]
        if len(kinds) == 1:
            return kinds[0]
        found = f"there are {' and '.join(kinds)} of that name" if kinds else "it is not known"
        raise OodmlError(f"{name!r}: {found}; say --kind {' | '.join(kinds or catalog.KINDS)}")
    thing = catalog.find("", name)
    for kind, fits in SIGNS.items():
        if fits(thing):
            return kind
    raise OodmlError(
        f"{name!r}: it is not clear what it is; say --kind {' | '.join(catalog.KINDS)}"
    )


def _arguments(thing: Any) -> set[str]:
    """The arguments that a class's objects are called with."""
    call = getattr(thing, "forward", None) or thing.__call__
    return set(inspect.signature(call).parameters)


def _gives(thing: Any) -> str:
    """What a function says that it returns."""
    found = getattr(thing, "__annotations__", {}).get("return", "")
    return found if isinstance(found, str) else getattr(found, "__name__", "")


def _is_method(thing: Any) -> bool:
    from oodml.methods._base import BaseMethod

    return inspect.isclass(thing) and issubclass(thing, BaseMethod)


SIGNS: dict[str, Callable[[Any], bool]] = {
    "methods": _is_method,
    "miners": lambda thing: inspect.isclass(thing) and "generator" in _arguments(thing),
    "losses": lambda thing: inspect.isclass(thing) and "labels" in _arguments(thing),
    "backbones": lambda thing: (
        "Backbone" in _gives(thing)
        or (not inspect.isclass(thing) and "weights" in inspect.signature(thing).parameters)
    ),
    "datasets": lambda thing: "ImageSet" in _gives(thing),
}
"""By what each kind is known; the first that fits counts."""
