"""Backbones: one file each, with `backbone(weights=None) -> Backbone`. Any timm name works too."""

import difflib
from collections.abc import Mapping
from typing import Any

import timm

from oodml import catalog
from oodml.backbones import _libraries
from oodml.backbones._base import POOLINGS as POOLINGS
from oodml.backbones._base import Backbone as Backbone
from oodml.backbones._base import Pooling as Pooling
from oodml.backbones._base import combine_poolings as combine_poolings
from oodml.backbones._base import pool_features as pool_features
from oodml.backbones._libraries import is_library as is_library
from oodml.backbones._libraries import local_files as local_files
from oodml.errors import OodmlError
from oodml.memory_allocator import keep_freed_memory
from oodml.randomness import isolated

VECTORS = "vectors"
"""The backbone of studies on a file of vectors, whose network is unknown."""


def resolve_defaults(backbone: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which pooling "model" is "avg" and augmentation "model" is "base" for backbones
    of this package, which have none of their own."""
    if backbone not in catalog.names("backbones") or backbone in catalog.plugins("backbones"):
        return dict(settings)
    own = {"pooling": "avg", "augmentation": "base"}
    return {
        key: own.get(key, "model") if value == "model" else value for key, value in settings.items()
    }


def is_user_code(name: str) -> bool:
    """Whether a backbone's name is an import path, so that loading it runs user code."""
    return ":" in name and not is_library(name)


def load_backbone(
    name: str, weights: str | None = None, seed: int = 0, trust_code: bool = False
) -> Backbone:
    """Load a backbone.

    Args:
        name: a name in `oodml.names("backbones")`, a timm network, an import path
            "module:function", or a network of another library, such as
            "open_clip:ViT-B-32/laion2b_s34b_b79k" or "transformers:facebook/dinov2-small".
        weights: None for the backbone's own pretrained weights (timm networks download them),
            "none" for weights drawn from the seed, or a .safetensors file, or a .pth of tensors.
        trust_code: import code that a network's repository on a hub contains.

    Raises:
        OodmlError: if the name is unknown, or the network cannot be loaded.
    """
    keep_freed_memory()
    check_backbone_name(name)
    if name == VECTORS:
        raise OodmlError("the features are vectors of a file, without a network", "backbone", name)
    with isolated(seed, "backbone", name):
        if is_library(name):
            return _libraries.library_backbone(name, weights, trust_code)
        if ":" not in name and name not in catalog.names("backbones"):
            return _libraries.timm_backbone(name, weights)
        backbone = catalog.load("backbones", name, weights=weights)
    if not isinstance(backbone, Backbone):
        given = f"returned a {type(backbone).__name__}; expected oodml.backbones.Backbone"
        raise OodmlError(f"backbone {name!r}: {given}", "backbone", name)
    return backbone


def check_backbone_name(name: str, location: str = "") -> None:
    """Raise OodmlError, which starts with the location, if no backbone has this name; the object of
    an import path is not imported."""
    own = catalog.names("backbones")
    if ":" in name or name in (*own, VECTORS):
        return
    networks = [*timm.list_models(), *timm.list_pretrained()]  # without and with tags of weights
    if name in networks:
        return
    close = difflib.get_close_matches(name, [*own, *networks], n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    known = f"Allowed: {', '.join(own)}, any timm network, or an import path module:function."
    problem = f"{f'{location}: ' if location else ''}unknown backbone {name!r}.{hint} {known}"
    raise OodmlError(problem, location or "backbone", name, [*own, *close])
