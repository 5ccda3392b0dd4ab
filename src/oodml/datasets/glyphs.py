"""289 characters of ten scripts in 20 open typefaces: a small dataset for tests and examples.

A class is a character, such as "greek/alpha"; its superclass is the script. The images are 64x64,
black on white. scripts/render_glyphs.py renders them; glyphs_licenses.txt has the font licenses.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from oodml.datasets._layout import check_choice
from oodml.images.image_set import ImageSet

FILE = Path(__file__).with_name("glyphs.npz")


def dataset(scripts: Sequence[str] | None = None) -> ImageSet:
    """Read all 5780 images, or those of scripts such as `["latin_upper", "arabic"]`; the attribute
    "font" is the typeface."""
    with np.load(FILE, allow_pickle=False) as arrays:
        names = ("ids", "classes", "superclasses", "pixels")
        ids, classes, superclasses, pixels = (arrays[name] for name in names)
    fonts = np.array([name.rpartition("/")[2].partition("-")[2] for name in ids.tolist()])
    attributes = {"font": fonts}
    images = ImageSet("glyphs", ids, classes, superclasses, pixels=pixels, attributes=attributes)
    if scripts is None:
        return images
    check_choice("glyphs", "scripts", scripts, np.unique(superclasses).tolist())
    return images.select(np.isin(superclasses, list(scripts)))
