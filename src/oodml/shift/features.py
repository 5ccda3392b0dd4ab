"""How the features behind a progression were computed; recorded in its settings."""

from collections.abc import Mapping
from typing import Any

from oodml.shift.splits import Progression

RECORDED = ("weights", "image_size", "augmentation", "pooling")
"""Entries of `VectorSet.source` that the shift depends on, besides the backbone."""


def record_features(source: Mapping[str, Any]) -> dict[str, int | str]:
    """The entries of a vector set's source to store in the settings of a progression."""
    return {key: source[key] for key in RECORDED if isinstance(source.get(key), int | str)}


def recorded_features(progression: Progression) -> dict[str, Any]:
    """What `record_features` stored; empty for files of version 0.1 and for published files."""
    return {key: progression.settings[key] for key in RECORDED if key in progression.settings}
