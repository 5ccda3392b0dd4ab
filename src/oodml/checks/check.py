"""Check a part of the catalog, or a user's own part, against all requirements of its kind."""

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch

from oodml import catalog
from oodml.checks import requirement
from oodml.checks.requirement import CheckResult, Requirement
from oodml.errors import OodmlError, error_at, unknown
from oodml.methods._base import BaseMethod


class Factory:
    """Creates new objects of a class or function of the catalog."""

    def __init__(self, kind: str, name: str, options: Mapping[str, Any]) -> None:
        self.kind, self.name, self.options = kind, name, dict(options)
        self.source = catalog.get_class(kind, name)

    def __call__(self, **provided: Any) -> Any:
        if self.kind == "losses":
            from oodml.checks.losses import SIZES

            sizes = SIZES | {"generator": torch.Generator().manual_seed(1)}
            accepted = inspect.signature(self.source).parameters
            provided = {key: value for key, value in sizes.items() if key in accepted}
        return catalog.load(self.kind, self.name, **provided | self.options)


def requirements_of(kind: str) -> tuple[Requirement, ...]:
    """All requirements on the objects of a kind: the functions `check_…` of its module."""
    if kind not in catalog.KINDS:
        raise unknown("kind", kind, catalog.KINDS)
    module = import_module(f"oodml.checks.{kind}")
    named = [function for name, function in vars(module).items() if name.startswith("check_")]
    defined = [function for function in named if function.__module__ == module.__name__]
    return (*dict.fromkeys((*module.BASIC, *defined, requirement.check_docstring)),)


def check(
    name: str, kind: str | None = None, options: Mapping[str, Any] | None = None
) -> list[CheckResult]:
    """Check all requirements on a part of the catalog, or on your own; one result for each.

    `name` is a name of the catalog or an import path; `kind`, such as "losses", is inferred by
    default. OodmlError if the object cannot be created with these options.
    """
    kind = kind or kind_of(name)
    requirements, factory = requirements_of(kind), Factory(kind, name, options or {})
    catalog.check_options(factory.source, factory.options, name)
    missing = [
        name
        for name, one in inspect.signature(factory.source).parameters.items()
        if one.default is one.empty and name not in (*factory.options, *requirement.SUPPLIED)
        if one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]
    if missing:
        arguments = " ".join(f"--option {option}=…" for option in missing)
        problem = f"missing options {', '.join(missing)}; add {arguments}"
        raise error_at(name, problem, allowed=missing)
    basic = import_module(f"oodml.checks.{kind}").BASIC
    with torch.random.fork_rng(devices=[]):
        return requirement.check_requirements(requirements, factory, basic)


def kind_of(name: str) -> str:
    """The kind of an object, by its name in the catalog or by its signature."""
    if ":" in name:
        imported = catalog.import_object(name)
        kinds = [kind for kind, matches in SIGNATURES.items() if matches(imported)][:1]
        problem = "its kind cannot be inferred from its signature"
    else:
        kinds = [kind for kind in catalog.KINDS if name in catalog.names(kind)]
        problem = f"it is the name of {' and '.join(kinds)}" if kinds else "unknown name"
    if len(kinds) == 1:
        return kinds[0]
    allowed = kinds or list(catalog.KINDS)
    message = f"{name!r}: {problem}; add --kind {' | '.join(allowed)}"
    raise OodmlError(message, given=name, allowed=allowed)


def _call_parameters(source: Any) -> list[inspect.Parameter]:
    """The parameters of the objects of a class when they are called."""
    call = getattr(source, "forward", None) or source.__call__
    return [*inspect.signature(call).parameters.values()][1:] if inspect.isclass(source) else []


def _return_type(function: Any) -> str:
    annotation = getattr(function, "__annotations__", {}).get("return", "")
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")


SIGNATURES: dict[str, Callable[[Any], bool]] = {
    "few_shot_adapters": lambda source: hasattr(source, "closed_form"),
    "methods": lambda source: inspect.isclass(source) and issubclass(source, BaseMethod),
    # A miner is called with embeddings, labels, and a generator.
    "miners": lambda source: any(
        one.name == "generator" and one.default is one.empty
        for one in _call_parameters(source)[2:3]
    ),
    "losses": lambda source: "labels" in {one.name for one in _call_parameters(source)},
    "backbones": lambda source: (
        "Backbone" in _return_type(source)
        or (not inspect.isclass(source) and "weights" in inspect.signature(source).parameters)
    ),
    "datasets": lambda source: "ImageSet" in _return_type(source),
}
"""How to recognize an object of each kind; the first match counts."""
