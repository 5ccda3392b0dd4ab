"""289 characters of ten scripts in 20 open typefaces: a small dataset for tests and examples.

A class is a character, such as "greek/alpha"; its superclass is the script. The images are 64x64,
black on white. scripts/render_glyphs.py renders them; glyphs_licenses.txt has the font licenses.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from oodml.errors import OodmlError, unknown
from oodml.images.image_set import ImageSet

FILE = Path(__file__).with_name("glyphs.npz")


def dataset(scripts: Sequence[str] | None = None) -> ImageSet:
    """Read all 5780 images, or those of some scripts; the attribute "font" is the typeface.

    Args:
        scripts: names of scripts, such as `["latin_upper", "arabic"]`; None for all.

    Raises:
        OodmlError: if a script does not exist.
    """
    with np.load(FILE, allow_pickle=False) as arrays:
        names = ("ids", "classes", "superclasses", "pixels")
        ids, classes, superclasses, pixels = (arrays[name] for name in names)
    fonts = np.array([name.rpartition("/")[2].partition("-")[2] for name in ids.tolist()])
    attributes = {"font": fonts}
    images = ImageSet("glyphs", ids, classes, superclasses, pixels=pixels, attributes=attributes)
    if scripts is None:
        return images
    known = np.unique(superclasses).tolist()
    if isinstance(scripts, str) or not scripts:
        problem = (
            f"glyphs: scripts: expected a list of one or more of {', '.join(known)}; "
            f"given {scripts!r}"
        )
        raise OodmlError(problem, "scripts", scripts, known)
    for script in scripts:
        if script not in known:
            raise unknown("script", script, known, "glyphs")
    return images.select(np.isin(superclasses, list(scripts)))


def character(class_name: str) -> str:
    """The character of a class: `character("greek/alpha")` is "α"."""
    characters = _characters()
    if class_name not in characters:
        raise unknown("class", class_name, characters, "glyphs")
    return characters[class_name]


@cache
def _characters() -> dict[str, str]:
    with np.load(FILE, allow_pickle=False) as arrays:
        names, characters = arrays["class_names"].tolist(), arrays["characters"].tolist()
    return dict(zip(names, characters, strict=True))
