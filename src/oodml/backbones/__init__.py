"""Backbones: one file each, with `backbone(weights=None) -> Backbone`. Any timm name works too."""

import difflib
from collections.abc import Mapping
from typing import Any

from oodml import catalog
from oodml.allocator import keep_freed_memory
from oodml.backbones._base import POOLINGS, Backbone, Pooling, combine_poolings, pool_features
from oodml.backbones._libraries import (
    is_library,
    library_backbone,
    local_files,
    timm_backbone,
    timm_names,
)
from oodml.errors import OodmlError
from oodml.randomness import isolated

VECTORS = "vectors"
"""The backbone of studies on a file of vectors, whose network is unknown."""

__all__ = [
    "POOLINGS",
    "VECTORS",
    "Backbone",
    "Pooling",
    "check_backbone_name",
    "combine_poolings",
    "is_library",
    "is_user_code",
    "load_backbone",
    "local_files",
    "pool_features",
    "resolve_defaults",
]


def resolve_defaults(backbone: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with "model" replaced where it has another name, as in results of earlier versions.

    The backbones of this package have no pooling or test transform of their own: for them,
    pooling "model" is "avg" and augmentation "model" is "base".

    Args:
        settings: may contain "pooling" and "augmentation".
    """
    resolved = dict(settings)
    if backbone in catalog.names("backbones") and backbone not in catalog.plugins("backbones"):
        for key, value in (("pooling", "avg"), ("augmentation", "base")):
            if resolved.get(key) == "model":
                resolved[key] = value
    return resolved


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
            "none" for untrained weights, or a local file (.safetensors, or .pth with tensors
            only).
        seed: random seed for untrained weights; the result does not depend on the global
            generator.
        trust_code: import code that a network's repository on a hub contains.
    """
    keep_freed_memory()
    check_backbone_name(name)
    if name == VECTORS:
        problem = (
            "the features are vectors of a file; no network is known that embeds images like them"
        )
        raise OodmlError(problem, "backbone", name)
    with isolated(seed, "backbone", name):
        if is_library(name):
            return library_backbone(name, weights, trust_code)
        if ":" not in name and name not in catalog.names("backbones"):
            return timm_backbone(name, weights)
        backbone = catalog.load("backbones", name, weights=weights)
    if not isinstance(backbone, Backbone):
        problem = (
            f"backbone {name!r}: returned a {type(backbone).__name__}; expected "
            "oodml.backbones.Backbone"
        )
        raise OodmlError(problem, "backbone", name)
    return backbone


def check_backbone_name(name: str, location: str = "") -> None:
    """Raise OodmlError, with the closest names, if no backbone has this name.

    Args:
        name: as in `load_backbone`. Import paths are not checked.
        location: the file and key that contain the name.
    """
    own = catalog.names("backbones")
    if ":" in name or name in (*own, VECTORS):
        return
    networks = timm_names()
    if name in networks:
        return
    close = difflib.get_close_matches(name, [*own, *networks], n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    prefix = f"{location}: " if location else ""
    problem = (
        f"{prefix}unknown backbone {name!r}.{hint} Allowed: {', '.join(own)}, any timm network, "
        "or an import path module:function."
    )
    raise OodmlError(problem, location or "backbone", name, [*own, *close])
