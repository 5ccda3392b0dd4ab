"""Backbones, one file each: `backbone(weights=None) -> Backbone`; any timm name works too."""

from oodml import catalog
from oodml.backbones._timm import Backbone, timm_backbone, timm_names
from oodml.errors import OodmlError, unknown
from oodml.randomness import isolated

__all__ = ["Backbone", "load_backbone"]


def load_backbone(name: str, weights: str | None = None, seed: int = 0) -> Backbone:
    """The backbone of a name: a file of this folder, an import path, or a timm network.

    weights: None for the backbone's own (timm: from the hub), "none" for untrained ones, or a
    local file (.safetensors, or .pth holding tensors only).
    seed: of untrained weights, which come out the same wherever they are made.
    """
    with isolated(seed, "backbone", name):
        return _load(name, weights)


def _load(name: str, weights: str | None) -> Backbone:
    if ":" in name or name in catalog.names("backbones"):
        made = catalog.load("backbones", name, weights=weights)
        if not isinstance(made, Backbone):
            raise OodmlError(f"backbone {name!r} gave a {type(made).__name__}, not a Backbone")
        return made
    if name not in timm_names():
        own = [*catalog.names("backbones"), *timm_names(name[:6])]
        raise unknown("backbone", name, own, "beside these, any network of timm")
    return timm_backbone(name, weights)
