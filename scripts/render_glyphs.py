# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "fonttools==4.68.0", "numpy==2.4.6", "pillow==13.0.0", "fontpkg-almarai==1.100",
#     "fontpkg-amiri==1.2", "fontpkg-arimo==1.341", "fontpkg-assistant==3.0",
#     "fontpkg-baloo-2==1.700", "fontpkg-cairo==3.130", "fontpkg-caveat==2.0",
#     "fontpkg-chakra-petch==1.0", "fontpkg-comfortaa==3.105", "fontpkg-eb-garamond==1.3",
#     "fontpkg-frank-ruhl-libre==6.4", "fontpkg-heebo==3.100", "fontpkg-hind==2.1",
#     "fontpkg-jetbrains-mono==2.211", "fontpkg-kalam==2.1", "fontpkg-kanit==2.0",
#     "fontpkg-lobster==2.100", "fontpkg-montserrat==9.0", "fontpkg-noto-kufi-arabic==2.109",
#     "fontpkg-noto-sans-devanagari==2.7", "fontpkg-noto-sans-thai==2.2", "fontpkg-open-sans==3.3",
#     "fontpkg-pacifico==3.1", "fontpkg-play==2.101", "fontpkg-playfair-display==1.203",
#     "fontpkg-press-start-2p==3.0", "fontpkg-rajdhani==1.201", "fontpkg-roboto==3.15",
#     "fontpkg-rubik==2.300", "fontpkg-russo-one==1.0", "fontpkg-sarabun==1.0",
#     "fontpkg-tajawal==1.700", "fontpkg-teko==2.0", "fontpkg-unbounded==1.701",
# ]
# ///
"""Render the dataset `glyphs` from open fonts: characters of ten scripts in 20 typefaces each.

Writes `glyphs.npz` and `glyphs_licenses.txt` into the folder given, and a sheet of samples to
the PNG given. The same versions give the same bytes. Run it with the packages above installed:

    python scripts/render_glyphs.py src/oodml/datasets docs/glyphs.png
"""

import argparse
import collections
import hashlib
import io
import itertools
import re
import unicodedata
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
from glyph_typefaces import Typeface, characters, family_folder, typefaces
from numpy.typing import NDArray
from PIL import Image, ImageDraw

SIZE = 64
OVERSAMPLING = 8
LARGEST_EXTENT = 58
TYPEFACES_PER_CLASS = 20
SMALLEST_DIFFERENCE = 0.1
"""Two images of a class share at most 90% of their ink: see `difference`."""
SMALLEST_DIFFERENCE_OF_CLASSES = 0.02
"""A typeface that draws two classes alike (a coarse † is a t) gives an image to one of them."""

# Left out is what some typefaces draw like another class: Latin O (0), l (I) and the small letters
# that are scaled capitals; Greek and Cyrillic capitals that Latin has, and Cyrillic small letters;
# Arabic alef and Hebrew vav and final nun, bare strokes like I; the Thai letters that modern
# faces draw like Latin S, U, W and Hebrew het; multiplication and summation signs and their like.
SCRIPTS = {
    "latin_upper": "ABCDEFGHIJKLMNPQRSTUVWXYZÆÐÞ",
    "latin_lower": "abdefghijkmnpqrtuyæðþ",
    "digits": "0123456789",
    "greek": "ΓΔΞΣΨΩαβδεζηθλμξπσςω",
    "cyrillic": "БДЖИЙЛПФЦЧШЩЪЫЭЮЯЄЂЋЉЊЏЎ",
    "hebrew": "אבגדהזחטיךכלםמנסעףפץצקרשת",
    "arabic": "بتثجحخدذرزسشصضطظعغفقكلمنهويآأؤإئءةىپچژگ",
    "devanagari": "अआइईउऊऋएऐओऔकखगघङचछजझञटठडढणतथदधनपफबभमयरलळवशषसह",
    "thai": "กขคฆงจฉชซฌญฎฏฐฑฒณดตถธนปผฝฟภมยลวศษสหฬอฮ",
    "symbols": "&@#%$€£¥¢§¶†‡©®™?!¿+÷=≠±*~{[(<«^∞√∫◊‰≤≈",
}
# The character whose ink height sets the scale of a typeface, and that height in pixels.
REFERENCE = {
    "greek": ("Γ", 42),
    "cyrillic": ("П", 42),
    "hebrew": ("ה", 36),
    "arabic": ("ا", 38),
    "devanagari": ("क", 38),
    "thai": ("ก", 36),
}
LATIN_REFERENCE = ("H", 42)

PACKAGES = re.findall(r"fontpkg-([a-z0-9-]+)==", Path(__file__).read_text(encoding="utf-8"))
LICENSE_END = "OTHER DEALINGS IN THE FONT SOFTWARE."


def ink(face: Typeface, character: str, size: float) -> Image.Image:
    """The character's ink as coverage, cut to its bounding box."""
    font = face.font(size)
    left, top, right, bottom = font.getbbox(character)
    canvas = Image.new("L", (int(right - left) + 8, int(bottom - top) + 8))
    ImageDraw.Draw(canvas).text((4 - left, 4 - top), character, font=font, fill=255)
    return canvas.crop(canvas.getbbox())


@cache
def font_size(face: Typeface, script: str) -> float:
    """The oversampled font size at which the script's reference character has its height."""
    character, height = REFERENCE.get(script, LATIN_REFERENCE)
    return 1000 * height * OVERSAMPLING / ink(face, character, 1000).height


def render(face: Typeface, character: str, script: str) -> NDArray[np.uint8]:
    """Black ink on white, [64 64], the ink's bounding box in the middle of the frame."""
    size = font_size(face, script)
    drawn = ink(face, character, size)
    limit = LARGEST_EXTENT * OVERSAMPLING
    if max(drawn.size) > limit:
        drawn = ink(face, character, size * (limit - 1) / max(drawn.size))
    canvas = Image.new("L", (SIZE * OVERSAMPLING, SIZE * OVERSAMPLING))
    canvas.paste(drawn, ((canvas.width - drawn.width) // 2, (canvas.height - drawn.height) // 2))
    blocks = np.asarray(canvas, dtype=np.int64).reshape(SIZE, OVERSAMPLING, SIZE, OVERSAMPLING)
    return (255 - blocks.sum(axis=(1, 3)) // OVERSAMPLING**2).astype(np.uint8)


def difference(image: NDArray[np.uint8], others: list[NDArray[np.uint8]]) -> float:
    """1 - shared ink / joint ink with the most alike of the others, in [0, 1]; 1 if none.

    The least over shifts of up to one pixel, so that a displaced copy counts as a copy.
    """
    if not others:
        return 1.0
    there = 255 - np.array(others, dtype=np.int32)
    least = 1.0
    for shift in itertools.product((-1, 0, 1), repeat=2):
        here = np.roll(255 - image.astype(np.int32), shift, axis=(0, 1))
        shared = np.minimum(here, there).sum(axis=(1, 2))
        joint = np.maximum(here, there).sum(axis=(1, 2))
        least = min(least, float((1 - shared / joint).min()))
    return least


def queues(families: list[list[Typeface]], needed: set[int], turn: int) -> list[list[Typeface]]:
    """The typefaces that have the characters `needed`, by family.

    `turn` is the place of the class: each starts at another family and at another style of it.
    """
    able = [[face for face in faces if needed <= characters(face.path)] for faces in families]
    able = [faces[turn % len(faces) :] + faces[: turn % len(faces)] for faces in able if faces]
    return able[turn % len(able) :] + able[: turn % len(able)]


def draw_class(
    families: list[list[Typeface]],
    character: str,
    script: str,
    turn: int,
    drawn: dict[Typeface, list[NDArray[np.uint8]]],
) -> list[tuple[Typeface, NDArray[np.uint8]]]:
    """One image from each family in turn, then a second of each, until there are enough.

    `drawn` holds what each typeface gave to earlier classes, and takes what it gives to this.
    """
    needed = {ord(character), ord(REFERENCE.get(script, LATIN_REFERENCE)[0])}
    rounds = itertools.zip_longest(*queues(families, needed, turn))
    taken: list[tuple[Typeface, NDArray[np.uint8]]] = []
    for face in filter(None, itertools.chain.from_iterable(rounds)):
        image = render(face, character, script)
        if difference(image, drawn[face]) < SMALLEST_DIFFERENCE_OF_CLASSES:
            continue
        if difference(image, [other for _, other in taken]) >= SMALLEST_DIFFERENCE:
            taken.append((face, image))
            drawn[face].append(image)
        if len(taken) == TYPEFACES_PER_CLASS:
            return taken
    raise SystemExit(f"{script} {character}: only {len(taken)} typefaces draw it differently")


def class_name(script: str, character: str) -> str:
    """For instance "greek/capital_gamma", from the character's Unicode name."""
    if script == "digits":
        return f"{script}/{character}"
    name = re.sub(
        r"^(LATIN|GREEK|CYRILLIC|HEBREW|ARABIC|DEVANAGARI|THAI) |\b(SMALL )?(LETTER|CHARACTER) ",
        "",
        unicodedata.name(character),
    )
    if script in ("latin_upper", "cyrillic"):
        name = name.removeprefix("CAPITAL ")
    if script == "symbols":
        name = re.sub(r" (SIGN|MARK)$", "", name)
    return f"{script}/{name.replace(' ', '_').lower()}"


def build() -> dict[str, NDArray[np.generic]]:
    """The arrays of the dataset, classes in the order of their names."""
    families = [typefaces(package) for package in PACKAGES]
    drawn: dict[Typeface, list[NDArray[np.uint8]]] = collections.defaultdict(list)
    named = sorted((class_name(s, c), s, c) for s, text in SCRIPTS.items() for c in text)
    rows = [
        (image, f"{name}/{number:02}-{face.family}-{face.style.lower()}", name, script)
        for turn, (name, script, character) in enumerate(named)
        for number, (face, image) in enumerate(draw_class(families, character, script, turn, drawn))
    ]
    columns = ("pixels", "ids", "classes", "superclasses")
    arrays = {
        key: np.array(values) for key, values in zip(columns, zip(*rows, strict=True), strict=True)
    }
    return arrays | {
        "class_names": np.array([name for name, _, _ in named]),
        "characters": np.array([character for _, _, character in named]),
    }


def archive(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """What `numpy.savez_compressed` writes, without the time of writing."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, values in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, values, version=(1, 0))
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            file.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return stream.getvalue()


def licenses() -> str:
    """Each family's notice, then the text of the license, which all of them share."""
    rule = "-" * 59
    notices, texts = [], set()
    for package in PACKAGES:
        whole = (family_folder(package) / "LICENSE").read_text(encoding="utf-8-sig")
        notice, _, text = "\n".join(whole.splitlines()).partition(f"\n{rule}\n")
        text = text[: text.index(LICENSE_END)] + LICENSE_END
        texts.add(re.sub(r"\s+", " ", text))
        notices.append(f"{package} (PyPI: fontpkg-{package})\n{notice.strip()}\n")
        license_text = f"{rule}\n{text.strip()}\n"
    if len(texts) != 1:
        raise SystemExit(f"the families have {len(texts)} different license texts, not one")
    return "\n".join(
        ["The dataset `glyphs` was rendered from these families.\n", *notices, license_text]
    )


def sheet(arrays: dict[str, NDArray[np.generic]]) -> Image.Image:
    """One row a script: nine of its classes, two typefaces of each side by side."""
    rows = []
    for script in SCRIPTS:
        names = np.unique(arrays["classes"][arrays["superclasses"] == script])
        chosen = names[np.linspace(0, len(names) - 1, 9).astype(int)]
        images = [arrays["pixels"][arrays["classes"] == name][3:5] for name in chosen]
        rows.append(np.concatenate(list(np.concatenate(images)), axis=1))
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("sheet", type=Path)
    arguments = parser.parse_args()
    arrays = build()
    data = archive(arrays)
    (arguments.folder / "glyphs.npz").write_bytes(data)
    (arguments.folder / "glyphs_licenses.txt").write_text(licenses(), encoding="utf-8")
    sheet(arrays).save(arguments.sheet)
    print(f"{len(arrays['class_names'])} classes, {len(arrays['ids'])} images")
    print(f"{len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    print(f"pixels' SHA-256 {hashlib.sha256(arrays['pixels'].tobytes()).hexdigest()}")


if __name__ == "__main__":
    main()
