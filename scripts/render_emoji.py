# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "pillow==13.0.0", "resvg-py==0.5.0"]
# ///
"""Render the dataset `emoji` from open icon sets: emoji in seven drawing styles each.

Download and unpack the icon sets and the Unicode groups from the npm registry:

    npm pack @iconify-json/noto@1.2.9 @iconify-json/noto-v1@1.2.5 @iconify-json/twemoji@1.2.5 \
        @iconify-json/fluent-emoji@1.2.7 @iconify-json/fluent-emoji-flat@1.2.6 \
        @iconify-json/emojione@1.2.3 @iconify-json/fxemoji@1.2.2 unicode-emoji-json@0.9.0

Then render them. The script writes `emoji.npz` and `emoji_licenses.txt` to the output folder, and
an overview to the PNG file:

    python scripts/render_emoji.py FOLDER_OF_TGZ src/oodml/datasets docs/emoji.png
"""

import argparse
import collections
import io
import itertools
import json
import re
import tarfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import resvg_py
from numpy.typing import NDArray
from PIL import Image

SIZE = 64
COLUMNS = 24
STYLES = ("noto", "noto-v1", "twemoji", "fluent-emoji", "fluent-emoji-flat", "emojione", "fxemoji")
GROUPS = {
    "Smileys & Emotion": "smileys",
    "People & Body": "people",
    "Animals & Nature": "animals",
    "Food & Drink": "food",
    "Travel & Places": "travel",
    "Activities": "activities",
    "Objects": "objects",
    "Symbols": "symbols",
}
"""Superclasses. Only two flags exist in all styles, so flags are left out."""
VARIANTS = re.compile(
    r"^(man|woman|men|women|boy|girl|family|couple with heart|kiss)\b"
    r"|o.clock|-thirty|^keycap| skin tone|^keyboard$"
)
"""Names of gender variants, families, clock faces, and keycaps, which look too much alike; and of
the keyboard, which is a musical instrument in one of the styles."""
SMALLEST_DIFFERENCE = 0.03
"""Two classes must differ by more than this mean absolute difference in at least half of the
styles; otherwise the later one is left out."""


@dataclass(frozen=True)
class Style:
    """An icon set: the SVG body and view box of each icon, and license information."""

    name: str
    icons: dict[str, dict]
    box: tuple[int, int]
    info: dict

    def svg(self, name: str) -> str:
        """The SVG document of an icon."""
        icon = self.icons[name]
        width, height = icon.get("width", self.box[0]), icon.get("height", self.box[1])
        left, top = icon.get("left", 0), icon.get("top", 0)
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{left} {top} {width} {height}" width="{SIZE}" height="{SIZE}">'
            f"{icon['body']}</svg>"
        )


def read_json(folder: Path, package: str, file: str) -> dict:
    """A JSON file from the only archive of an npm package."""
    (archive,) = folder.glob(f"{package}-[0-9]*.tgz")
    with tarfile.open(archive) as tar:
        stream = tar.extractfile(f"package/{file}")
        assert stream is not None
        return json.load(stream)


def read_style(folder: Path, name: str) -> Style:
    """One icon set."""
    package = f"iconify-json-{name}"
    icons = read_json(folder, package, "icons.json")
    box = icons.get("width", 16), icons.get("height", 16)
    return Style(name, icons["icons"], box, read_json(folder, package, "info.json"))


def simplify(name: str) -> str:
    """A name without case, spaces, accents, and punctuation."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]", "", plain.lower().replace("&", "and"))


def icon_name(emoji: str, name: str, known: dict[str, str]) -> str | None:
    """The icon of an emoji in an icon set, by its CLDR name or the names of its characters."""
    characters = [c for c in emoji if c != "\N{VARIATION SELECTOR-16}"]
    candidates = [name, re.sub(r"^flag: ", "flag for ", name), name.removeprefix("flag: ")]
    if len(characters) == 1:
        candidates.append(unicodedata.name(characters[0], name))
    return next((known[c] for c in map(simplify, candidates) if c in known), None)


def render(svg: str) -> NDArray[np.uint8]:
    """[64 64 3] the drawing on white."""
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=SIZE, height=SIZE))
    drawn = Image.open(io.BytesIO(png)).convert("RGBA")
    canvas = Image.new("RGBA", (SIZE, SIZE), "white")
    canvas.alpha_composite(
        drawn,
        tuple((SIZE - side) // 2 for side in drawn.size),  # type: ignore[arg-type]
    )
    return np.asarray(canvas.convert("RGB"))


def draw(folder: Path, styles: list[Style]) -> dict[tuple[str, str], dict[str, NDArray[np.uint8]]]:
    """The drawings by style of each (group, name) that all styles contain."""
    emoji = read_json(folder, "unicode-emoji-json", "data-by-emoji.json")
    tables = [{simplify(name): name for name in style.icons} for style in styles]
    drawings = {}
    for character, entry in emoji.items():
        if entry["group"] not in GROUPS or VARIANTS.search(entry["name"]):
            continue
        icons = [icon_name(character, entry["name"], table) for table in tables]
        if all(icons):
            images = [render(s.svg(icon)) for s, icon in zip(styles, icons, strict=True) if icon]
            if all(image.min() < 250 for image in images):
                key = GROUPS[entry["group"]], entry["slug"]
                drawings[key] = dict(zip(STYLES, images, strict=True))
    return drawings


def look_alikes(drawings: dict) -> set[tuple[str, str]]:
    """The later of each two classes whose drawings hardly differ."""
    dropped: set[tuple[str, str]] = set()
    for one, other in itertools.combinations(drawings, 2):
        if one[0] != other[0] or one in dropped or other in dropped:
            continue
        differences = [
            np.abs(drawings[one][style].astype(float) - drawings[other][style]).mean() / 255
            for style in STYLES
        ]
        if np.mean(np.array(differences) < SMALLEST_DIFFERENCE) > 0.5:
            dropped.add(other)
    return dropped


MIT = """\
MIT License: Copyright (c) Microsoft Corporation.

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or
substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def licenses(styles: list[Style], apache: Path) -> str:
    """The license notices of all icon sets."""
    lines = ["The images of the dataset `emoji` are rendered from these icon sets.\n"]
    for style in styles:
        author, license_ = style.info["author"], style.info["license"]
        lines.append(
            f"{style.name}: {style.info['name']} by {author['name']}, {author['url']}\n"
            f"    {license_['title']} ({license_['spdx']}), {license_['url']}\n"
            "    Changes: rendered at 64x64 pixels on white.\n"
        )
    return "\n".join([*lines, MIT, apache.read_text(encoding="utf-8")])


def sheet(images: NDArray[np.uint8], columns: int) -> Image.Image:
    """Images [n 64 64 3] side by side in rows of `columns`."""
    rows = -(-len(images) // columns)
    tiles = np.full((rows * columns, SIZE, SIZE, 3), 255, dtype=np.uint8)
    tiles[: len(images)] = images
    grid = tiles.reshape(rows, columns, SIZE, SIZE, 3).transpose(0, 2, 1, 3, 4)
    return Image.fromarray(grid.reshape(rows * SIZE, columns * SIZE, 3))


def main() -> None:
    """Render everything."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("archives", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("overview", type=Path)
    parser.add_argument(
        "--apache",
        type=Path,
        default=Path("/usr/share/common-licenses/Apache-2.0"),
        help="the text of the Apache License 2.0",
    )
    arguments = parser.parse_args()
    styles = [read_style(arguments.archives, name) for name in STYLES]
    drawings = draw(arguments.archives, styles)
    dropped = look_alikes(drawings)
    keys = [key for key in sorted(drawings) if key not in dropped]
    arrays = {"classes": np.array(["/".join(key) for key in keys]), "styles": np.array(STYLES)}
    for style in STYLES:
        image = sheet(np.stack([drawings[key][style] for key in keys]), COLUMNS)
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", lossless=True, quality=100, method=6)
        arrays[style] = np.frombuffer(buffer.getvalue(), dtype=np.uint8)
    np.savez(arguments.output / "emoji.npz", **arrays)
    (arguments.output / "emoji_licenses.txt").write_text(
        licenses(styles, arguments.apache), encoding="utf-8"
    )
    sample = [keys[i] for i in np.linspace(0, len(keys) - 1, 24).astype(int)]
    columns = [drawings[key][style] for style in STYLES for key in sample]
    sheet(np.stack(columns), len(sample)).save(arguments.overview)
    print(f"{len(keys)} classes; left out as look-alikes: {sorted(dropped)}")
    print(collections.Counter(group for group, _ in keys))


if __name__ == "__main__":
    main()
