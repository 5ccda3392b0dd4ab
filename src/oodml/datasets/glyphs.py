"""289 characters of ten scripts, each as 20 typefaces of open fonts draw it: data to try things on.

A class is a character, for instance "greek/alpha"; its superclass is the script. Black on white,
64x64. Made by scripts/render_glyphs.py; the fonts' licences are in glyphs_licences.txt.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from oodml.errors import OodmlError, unknown
from oodml.images.image_set import ImageSet

FILE = Path(__file__).with_name("glyphs.npz")


def dataset(scripts: Sequence[str] | None = None) -> ImageSet:
    """All 5780 images, or those of some scripts, e.g. `["latin_upper", "arabic"]`."""
    if isinstance(scripts, str):
        raise OodmlError(f"glyphs: scripts must be a list of names; given {scripts!r}")
    with np.load(FILE, allow_pickle=False) as arrays:
        names = ("ids", "classes", "superclasses", "pixels")
        ids, classes, superclasses, pixels = (arrays[name] for name in names)
    images = ImageSet("glyphs", ids, classes, superclasses, pixels=pixels)
    if scripts is None:
        return images
    known = np.unique(superclasses).tolist()
    for script in scripts:
        if script not in known:
            raise unknown("script", script, known, "glyphs")
    if not scripts:
        raise OodmlError(f"glyphs: scripts is empty; allowed: some of {', '.join(known)}")
    return images.select(np.isin(superclasses, list(scripts)))


def character(class_name: str) -> str:
    """The character that a class shows: `character("greek/alpha")` is "α"."""
    known = _characters()
    if class_name not in known:
        raise unknown("class", class_name, known, "glyphs")
    return known[class_name]


@cache
def _characters() -> dict[str, str]:
    with np.load(FILE, allow_pickle=False) as arrays:
        names, characters = arrays["class_names"].tolist(), arrays["characters"].tolist()
    return dict(zip(names, characters, strict=True))
