"""`oodml data …`: check and download datasets, and the cache."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import oodml
from oodml.cli import shared
from oodml.cli.shared import File, Text, Words, argument, option
from oodml.errors import unknown

if TYPE_CHECKING:
    from oodml.datasets._check import CheckReport, Quantiles
    from oodml.decisions.leakage import Leakage

_NEAR = "Near-duplicates"
near = partial(option, panel=_NEAR)
MAX_NAMES = 10
"""The number of names in a cell of the table; `--json` prints all."""
TRAIT_ROWS = (
    ("alpha", "transparent (alpha)", "; composited on {background}"),
    ("rotated", "rotated by EXIF", "; turned upright"),
    ("gray", "grayscale", ""),
    ("CMYK", "CMYK", "; converted to RGB"),
    ("profile", "color profile", "; converted to sRGB"),
    ("16-bit", "16-bit", "; scaled to 8 bits"),
    ("float", "floating point", "; scaled to 8 bits"),
    ("animated", "animated or multi-page", "; only the first frame is read"),
)
"""For each trait: its name in the report, the label of its row, and what decoding does."""


def check(
    data: shared.DataArgument,
    root: shared.Root = None,
    minimum: Annotated[int, option("Report classes with fewer readable images than this.")] = 2,
    background: shared.Background = None,
    skip_unlabeled: shared.SkipUnlabeled = False,
    near_duplicates: Annotated[bool, near("List images that are almost equal.")] = False,
    backbone: Annotated[Text, shared.backbone_option(panel=_NEAR, unset="pixels")] = None,
    similarity: Annotated[float | None, near("Least similarity.", unset="0.99")] = None,
    splits: Annotated[File, shared.splits_option(panel=_NEAR, callback=None)] = None,
) -> None:
    """Decode all images of a dataset and report what may affect results.

    Reports corrupt images, small classes, duplicates, skipped files, and images that are
    transparent, rotated by EXIF data, gray, CMYK, 16-bit, or animated.

    With --near-duplicates, images with correlated pixels are listed; with --backbone, those with
    similar features; with --splits, also test images that have one in training. Exits with status 1
    if images are corrupt.

    Example: `oodml data check photos/` or `oodml data check photos/ --near-duplicates`
    """
    import warnings
    from dataclasses import asdict

    from oodml.datasets._check import check as check_images
    from oodml.datasets._check import describe_gaps
    from oodml.progress import Progress, count_noun

    near_duplicates |= bool(backbone or splits or similarity is not None)
    given = {"root": root, "skip_unlabeled": skip_unlabeled}
    options: Any = {name: value for name, value in given.items() if value}
    images = shared.open_data(data, background=background, **options)
    # Pillow warns about damaged files that it then fails to read; the report lists these.
    warnings.filterwarnings("ignore", module="PIL")
    with Progress(f"Decoding {images.name}", len(images)) as progress:
        report = check_images(images, minimum, progress.advance)
    leakage = _find_leakage(images, backbone, similarity, splits) if near_duplicates else None
    tables = [] if leakage is None else _leakage_tables(leakage)
    size = f"{count_noun(report.images, 'image')} of {images.describe_classes()}"
    corrupt = f"{len(report.corrupt)} corrupt, {count_noun(len(report.too_small), 'class')}"
    sentence = f"{report.name}: {size}; {corrupt} with fewer than {minimum} readable images."
    shared.show(
        [sentence, *describe_gaps(images)],
        shared.Table("", ("", ""), _rows(report, data, options), ("",)),
        *tables,
        next=("study", "init", data, *(("--root", root) if root else ())),
        json=asdict(report) | ({} if leakage is None else {"near_duplicates": asdict(leakage)}),
    )
    if report.corrupt:
        raise typer.Exit(1)


def fetch(
    name: Annotated[str, argument("cub200, online_products, cars196, inshop.", metavar="DATASET")],
    out: Annotated[Path, option("Folder to download to.")],
) -> None:
    """Download a published dataset, verify its checksum, and unpack it.

    Repeat the command to resume an interrupted download. For datasets that cannot be downloaded,
    the error explains how to obtain the files.

    Example: `oodml data fetch cub200 --out ~/data`
    """
    from oodml.datasets._fetch import fetch as fetch_images
    from oodml.progress import Progress

    with Progress(f"Downloading {name}", None, "MB") as progress:

        def advance(received: int, total: int) -> None:
            progress.total = total // 10**6 or None
            progress.advance(received // 10**6 - progress.done)

        images = fetch_images(name, out, advance)
    sentence = f"{name}: {len(images)} images of {len(images.class_names)} classes in {out}"
    shared.show(sentence, next=("data", "check", f"{name}:{out}"))


def cache(
    parts: Annotated[Words, argument("features, pixels, contents, … (default: all).")] = None,
    clear: Annotated[bool, option("Delete the parts after a confirmation.")] = False,
    yes: Annotated[bool, option("With --clear: do not ask for confirmation.")] = False,
) -> None:
    """List the cache of features and images, or delete it. Everything is recomputed when needed.

    Parts: `features` of frozen networks; `pixels`, decoded and resized images; `contents`, hashes
    of image files and which can be read; `huggingface`, image files of Hugging Face datasets.

    Example: `oodml data cache` or `oodml data cache --clear features`
    """
    import shutil

    from oodml.files import cache_folder
    from oodml.images.pixel_cache import list_pixel_caches
    from oodml.progress import count_noun, format_size

    folder = cache_folder()
    every = sorted(path.name for path in folder.glob("*/"))
    for name in parts or ():
        if name not in every:
            raise unknown("part of the cache", name, every, str(folder))
    chosen = parts or every
    files = {name: [f for f in (folder / name).rglob("*") if f.is_file()] for name in chosen}
    sizes = {name: sum(file.stat().st_size for file in own) for name, own in files.items()}
    total = format_size(sum(sizes.values()))
    sentences = [f"{folder} (set OODML_CACHE for another folder): {total if sizes else 'empty'}"]
    for name, size in sizes.items():
        sentences.append(f"  {name}: {count_noun(len(files[name]), 'file')}, {format_size(size)}")
        for description, own in list_pixel_caches() if name == "pixels" else ():
            sentences.append(f"    {description}, {format_size(own)}")
    if clear:
        if not yes:
            typer.confirm(f"delete {', '.join(sizes) or 'nothing'} ({total})?", abort=True)
        for name in sizes:
            shutil.rmtree(folder / name)
        sentences = [f"freed {total}"]
    shared.show(
        sentences,
        next=("data", "cache", "--clear") if sizes and not clear else ("try",),
        json={"folder": str(folder), "bytes": sizes, "cleared": clear},
    )


def _find_leakage(
    images: "oodml.ImageSet", backbone: str | None, similarity: float | None, splits: Path | None
) -> "Leakage":
    from oodml.decisions import leakage
    from oodml.progress import Progress
    from oodml.report.folder import read_folder

    vectors = []
    if backbone is None:
        with Progress("Comparing images", len(images)) as progress:
            least = leakage.CORRELATION if similarity is None else similarity
            groups = leakage.near_duplicates(images, least, progress.advance)
    else:
        features = oodml.embed(images, backbone)
        least = leakage.SIMILARITY if similarity is None else similarity
        groups = leakage.similar_groups(features.vectors, least)
        vectors.append(("", backbone, features))
    progression = []
    if splits is not None and splits.is_dir():
        progression = list(oodml.read_splits(splits / "splits.json"))
        vectors += read_folder(splits, images).first_vectors()
    elif splits is not None:
        progression = list(oodml.read_splits(splits))
        vectors += [(str(s.step), backbone, features.subset(s.test))
                    for s in progression if backbone]  # fmt: skip
    return leakage.measure_leakage(images, groups, progression, vectors)


def _leakage_tables(leakage: "Leakage") -> list[shared.Table]:
    pairs = {"within a class": leakage.within, "across classes": leakage.across}
    rows = [(kind, _list([" ≈ ".join(group) for group in own])) for kind, own in pairs.items()]
    shown = "split {split}: {leaked} of {test} test images"
    lines = [shown.format(**split) for split in leakage.splits]
    rows += [("in training", "\n".join(lines))] * bool(lines)
    tables = [shared.Table("Near-duplicates", ("", ""), rows, ("",))]
    if leakage.recalls:
        values = [
            (row["split"] or "all", row["vectors"], f"{row['recall']:.4f}", f"{row['without']:.4f}")
            for row in leakage.recalls
        ]
        heads = ("split", "vectors", "all images", "without near-duplicates")
        tables.append(shared.Table("Recall@1", heads, values, ("vectors",)))
    return tables


def _rows(report: "CheckReport", data: str, options: dict[str, Any]) -> list[tuple[str, str]]:
    from oodml.datasets._check import data_line

    line = data_line(data, **options, skip_corrupt=True)
    corrupt = _list(list(report.corrupt.values()))
    corrupt += f"\nTo leave them out of a study: {line}" if report.corrupt else ""
    parts = [f"{part} {count}" for part, count in report.partition.items()]
    small = [f"{name} ({count})" for name, count in report.too_small.items()]
    skipped = [f"{suffix} ({count})" for suffix, count in report.skipped.items()]
    traits = []
    for trait, label, note in TRAIT_ROWS:
        ids, note = report.traits[trait], note.format(background=report.background)
        count = f"{len(ids)} of {report.images}, such as {ids[0]}{note}" if ids else "none"
        traits.append((label, count))
    return [
        ("images", str(report.images)),
        ("classes", str(report.classes)),
        ("superclasses", str(report.superclasses or "none")),
        ("images per class", _range(report.per_class)),
        ("width", _range(report.width, " px")),
        ("height", _range(report.height, " px")),
        *[("predefined split", ", ".join(parts))] * bool(parts),
        ("corrupt", corrupt),
        (f"classes below {report.minimum} images", _list(small)),
        ("duplicates across classes", _list([" = ".join(group) for group in report.duplicates])),
        ("duplicates within a class", str(report.repeats or "none")),
        *traits,
        ("skipped files", ", ".join(skipped) or "none"),
    ]


def _range(values: "Quantiles", unit: str = "") -> str:
    return f"{values[0]:g} to {values[2]:g}{unit}, median {values[1]:g}"


def _list(names: list[str]) -> str:
    more = [f"… and {len(names) - MAX_NAMES} more"] if len(names) > MAX_NAMES else []
    return "\n".join([f"{len(names)}:", *names[:MAX_NAMES], *more]) if names else "none"
