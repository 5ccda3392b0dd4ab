"""The typefaces of the packages `fontpkg-NAME`: one style of a family each."""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fontTools.ttLib import TTFont
from PIL import ImageFont

WEIGHTS = {"Regular": 400, "Bold": 700, "Light": 300, "Black": 900, "ExtraBold": 800}
ORDER = ("Regular", "BoldItalic", "Light", "Italic", "Bold", "LightItalic", "ExtraBold", "Black")


@dataclass(frozen=True)
class Typeface:
    """One style of a family: a file, and the place on its axes if it is variable."""

    family: str
    style: str
    path: Path
    axes: tuple[float, ...] = ()

    def font(self, size: float) -> ImageFont.FreeTypeFont:
        font = ImageFont.truetype(self.path, size, layout_engine=ImageFont.Layout.BASIC)
        if self.axes:
            font.set_variation_by_axes(list(self.axes))
        return font


def family_folder(package: str) -> Path:
    spec = importlib.util.find_spec(f"fontpkg_{package.replace('-', '_')}")
    if spec is None or spec.origin is None:
        raise SystemExit(f"install fontpkg-{package} first (see the head of this script)")
    return Path(spec.origin).parent


def typefaces(package: str) -> list[Typeface]:
    """The styles of a family, regular first, then those most unlike it."""
    found: dict[str, Typeface] = {}
    for path in sorted((family_folder(package) / "files").glob("*.ttf")):
        font = TTFont(path, lazy=True)
        if "fvar" in font:
            found |= variable_styles(package, path, font)
        else:
            style = path.stem.rpartition("-")[2]
            found[style] = Typeface(package, style, path)
    ranks = {style: rank for rank, style in enumerate(ORDER)}
    kept = [face for style, face in found.items() if style in ranks or "Condensed" in style]
    return sorted(kept, key=lambda face: (ranks.get(face.style, len(ranks)), face.style))


def variable_styles(package: str, path: Path, font: TTFont) -> dict[str, Typeface]:
    axes = {axis.axisTag: axis for axis in font["fvar"].axes}
    slant = "Italic" if "Italic" in path.stem else ""
    widths = {"": 100.0} | ({"Condensed": axes["wdth"].minValue} if "wdth" in axes else {})
    found = {}
    for width_name, width in widths.items():
        for weight_name, value in WEIGHTS.items():
            if not axes["wght"].minValue <= value <= axes["wght"].maxValue:
                continue
            place = {"wght": value, "wdth": width}
            style = width_name + (weight_name + slant).replace("RegularItalic", "Italic")
            at = tuple(float(place.get(tag, axis.defaultValue)) for tag, axis in axes.items())
            found[style] = Typeface(package, style, path, at)
    return found


@cache
def characters(path: Path) -> frozenset[int]:
    """The code points a file maps to a glyph of its own, .notdef not counted."""
    table = TTFont(path, lazy=True).getBestCmap()
    return frozenset(code for code, glyph in table.items() if glyph != ".notdef")
