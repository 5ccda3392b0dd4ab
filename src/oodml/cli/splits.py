"""`oodml splits …`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from oodml.images.image_set import ImageSet
    from oodml.shift.agreement import Agreement
    from oodml.shift.splits import Progression
    from oodml.vectors import VectorSet

app = typer.Typer(
    no_args_is_help=True,
    help="Build, show, check and convert class splits.",
    rich_markup_mode="markdown",
)
COMMANDS = ()

File = Annotated[Path, typer.Argument(help="A file of splits: .json, or a published .pkl.")]
Out = Annotated[Path, typer.Option(help="The file to write: .json, or .pkl.")]
Data = Annotated[str | None, typer.Option(help="A data set's name, a folder, or a table.")]
Vectors = Annotated[
    Path | None, typer.Option(help="A file of vectors instead of data and backbone.")
]


@app.command()
def build(
    out: Out,
    data: Data = None,
    vectors: Vectors = None,
    backbone: Annotated[str, typer.Option(help="The frozen network.")] = "lite0",
    image_size: Annotated[int | None, typer.Option(help="Pixels of its square input.")] = None,
    procedure: Annotated[str, typer.Option(help="auto, exact or published.")] = "auto",
    splits: Annotated[str, typer.Option(help="How many, evenly spaced in FID, or all.")] = "5",
    harder: Annotated[int | None, typer.Option(help="Swaps or iterations at most.")] = None,
    easier: Annotated[int | None, typer.Option(help="Swaps or iterations at most.")] = None,
    removal: Annotated[int | None, typer.Option(help="Iterations of removal.")] = None,
    swaps: Annotated[int, typer.Option(help="Swaps an iteration (published).")] = 2,
    unit: Annotated[str, typer.Option(help="class or superclass (published).")] = "class",
    train_superclass: Annotated[
        list[str] | None, typer.Option(help="Train on this at the start; may be repeated.")
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of the train classes.")] = 0.25,
    shots: Annotated[
        list[int] | None, typer.Option(help="Few-shot episodes of so many; may be repeated.")
    ] = None,
    episodes: Annotated[int, typer.Option(help="Episodes for each number of shots.")] = 10,
    controls: Annotated[
        int, typer.Option(help="Size-matched controls of each smaller split, to OUT.controls.json.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Of validation classes and episodes.")] = 0,
) -> None:
    """Build splits of growing shift for a collection of images or vectors.

    Example: `oodml splits build --data photos/ --out photos.json`
    """
    from oodml.shift.build import SplitSettings, build_progression
    from oodml.shift.controls import size_controls
    from oodml.shift.files import write_splits
    from oodml.study.spec.tables import parse_settings

    values = {
        "procedure": procedure,
        "backbone": backbone,
        "image_size": image_size,
        "n_splits": splits if splits == "all" else _number(splits),
        "harder": harder,
        "easier": easier,
        "removal": removal,
        "swaps": swaps,
        "unit": unit,
        "train_superclasses": tuple(train_superclass) if train_superclass else None,
        "validation": validation,
        "seed": seed,
    }
    settings = parse_settings(SplitSettings, values, "splits", Path("options"))
    images = None if data is None else _images(data)
    features = _features(images, backbone, vectors, image_size)
    progression = build_progression(features, settings, tuple(shots or ()), episodes, images)
    write_splits(progression, out)
    _table(progression)
    if controls:
        beside = out.with_suffix(".controls.json")
        matched = size_controls(progression, features, range(controls))
        write_splits(matched, beside)
        _table(matched)


@app.command()
def show(
    file: File,
    data: Data = None,
    vectors: Vectors = None,
    backbone: Annotated[str | None, typer.Option(help="The frozen network of the map.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw FID per step: .png, .pdf.")] = None,
    maps: Annotated[Path | None, typer.Option(help="Draw the class means: .png, .pdf.")] = None,
    page: Annotated[Path | None, typer.Option(help="Draw both, to look into: .html.")] = None,
    step: Annotated[list[str] | None, typer.Option(help="Steps of the maps; repeat.")] = None,
    umap: Annotated[bool, typer.Option(help="Place the classes by UMAP, not PCA.")] = False,
) -> None:
    """Print a table of splits, and draw them.

    The maps and the page need the data, or a file of vectors.
    Example: `oodml splits show photos.json --data photos/ --figure fid.png --maps classes.png`
    """
    from oodml.shift.files import read_splits

    progression = read_splits(file)
    _table(progression)
    images = None if data is None else _images(data)
    features = None
    if maps or (page and (data or vectors)):
        features = _features(images, backbone or progression.backbone or "lite0", vectors)
    _draw(progression, features, images, figure, maps, page, step, umap)


@app.command(name="import")
def import_(file: File, out: Out, data: Data = None) -> None:
    """Read a published pickle, running nothing that it holds, and write JSON.

    With the data, the support samples get the ids of its images.
    Example: `oodml splits import cars196_splits.pkl --out cars196.json`
    """
    from dataclasses import replace

    from oodml.images.fingerprint import fingerprint
    from oodml.shift.episodes import fill_support
    from oodml.shift.files import check_against, read_splits, write_splits

    progression = read_splits(file)
    if data is not None:
        images = _images(data)
        progression = fill_support(progression, images.ids.tolist(), images.classes.tolist())
        progression = replace(progression, data=images.name, fingerprint=fingerprint(images))
        check_against(progression, images.ids.tolist(), images.classes.tolist())
    write_splits(progression, out)
    _table(progression)


@app.command()
def export(file: File, out: Out) -> None:
    """Write splits in the layout of the original code, of plain strings and numbers.

    Example: `oodml splits export photos.json --out photos_splits.pkl`
    """
    from oodml.shift.files import read_splits, write_splits

    write_splits(read_splits(file), out)
    typer.echo(f"{out}: written")


@app.command()
def check(file: File, data: Data = None) -> None:
    """Check a file of splits, by itself and against its data.

    Example: `oodml splits check photos.json --data photos/`
    """
    from oodml.errors import OodmlError
    from oodml.images.fingerprint import fingerprint
    from oodml.shift.checks import data_problems
    from oodml.shift.files import read_splits

    progression = read_splits(file)
    if data is not None:
        images = _images(data)
        found = data_problems(progression, images.ids.tolist(), images.classes.tolist())
        for problem in found[:20]:
            typer.echo(problem)
        if found:
            raise OodmlError(f"{file}: {len(found)} things do not fit {images.name}")
        if progression.fingerprint not in ("", fingerprint(images)):
            typer.echo(
                f"{images.name} has changed since (fingerprint {fingerprint(images)}, in the file "
                f"{progression.fingerprint}); what the splits name is still there"
            )
    typer.echo(f"{file}: {len(progression)} splits, nothing wrong")


@app.command()
def backbones(
    file: File,
    data: Annotated[str, typer.Option(help="A data set's name, a folder, or a table.")],
    backbone: Annotated[list[str], typer.Option(help="A frozen network; give two or more.")],
    figure: Annotated[Path | None, typer.Option(help="Draw it: .png, .pdf.")] = None,
) -> None:
    """Measure the same splits with several networks: does the order depend on the network?

    Example: `oodml splits backbones glyphs.json --data glyphs --backbone lite0 --backbone pixels`
    """
    from oodml.embedding import embed
    from oodml.shift.agreement import backbone_agreement
    from oodml.shift.files import read_splits

    progression, images = read_splits(file), _images(data)
    found = backbone_agreement(progression, {name: embed(images, name) for name in backbone})
    _agreement_table(found)
    if figure:
        from oodml.report.splits_figures import agreement_figure, save_figure

        save_figure(agreement_figure(found), figure)


def _images(data: str) -> "ImageSet":
    from oodml.datasets import open_images

    return open_images(data)


def _features(
    images: "ImageSet | None", backbone: str, vectors: Path | None, image_size: int | None = None
) -> "VectorSet":
    from oodml.embedding import embed
    from oodml.errors import OodmlError
    from oodml.vectors import VectorSet

    if vectors is not None:
        return VectorSet.load(vectors)
    if images is None:
        raise OodmlError("give --data, a data set's name or a folder, or --vectors, a file")
    return embed(images, backbone, image_size=image_size)


def _number(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def _draw(
    progression: "Progression",
    features: "VectorSet | None",
    images: "ImageSet | None",
    figure: Path | None,
    maps: Path | None,
    page: Path | None,
    step: list[str] | None,
    umap: bool,
) -> None:
    from oodml.report import splits_figures as draw

    if figure:
        draw.save_figure(draw.shift_per_step(progression), figure)
    if maps and features is not None:
        draw.save_figure(draw.progression_maps(progression, features, step, umap), maps)
    if page:
        from oodml.files import write_text
        from oodml.report.class_map import class_map
        from oodml.report.thumbnails import thumbnails

        found = None
        if features is not None:
            found = thumbnails(images, class_map(features).samples, 64, 5_000_000)
        fragment = draw.progression_html(progression, features, found, True, umap)
        title = progression.data or "splits"
        write_text(page, f"<!doctype html><meta charset='utf-8'><title>{title}</title>{fragment}")


def _table(progression: "Progression") -> None:
    from rich.console import Console
    from rich.table import Table

    about = [progression.data, progression.backbone, progression.procedure]
    table = Table(title=", ".join(filter(None, about)))
    for column in ("step", "FID", "train", "test", "validation", "episodes"):
        table.add_column(column, justify="right")
    for split in progression:
        episodes = ", ".join(f"{len(drawn)}×{shots}" for shots, drawn in split.episodes.items())
        counts = (len(split.train), len(split.test), len(split.validation))
        table.add_row(str(split.step), f"{split.shift:.4g}", *map(str, counts), episodes)
    Console().print(table)


def _agreement_table(found: "Agreement") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="FID of class means; rank correlation with the first network")
    for column in ("network", *map(str, found.steps), "Spearman", "Kendall"):
        table.add_column(column, justify="right")
    rows = zip(found.backbones, found.shifts, found.spearman[0], found.kendall[0], strict=True)
    for name, shifts, spearman, kendall in rows:
        numbers = (f"{shift:.4g}" for shift in shifts)
        table.add_row(name, *numbers, f"{spearman:.3f}", f"{kendall:.3f}")
    Console().print(table)
    print(f"largest difference of the FIDs, from 0 to 1 for each: {found.largest_gap:.3f}")
