"""`oodml splits …`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oodml.cli import shared
from oodml.cli.shared import argument, command_group, option
from oodml.errors import OodmlError, error_at

if TYPE_CHECKING:
    from oodml.images.image_set import ImageSet
    from oodml.shift.controls import Agreement
    from oodml.shift.splits import Progression
    from oodml.vectors import VectorSet

app = command_group("Build, show, check, and convert class splits.")

File = Annotated[Path, argument("A split file: .json, or a published .pkl.")]
Out = Annotated[Path, option("The file to write: .json or .pkl.")]
Data = Annotated[str | None, option("A dataset's name, a folder, or a table.")]
Vectors = Annotated[Path | None, option("A file of vectors instead of --data and --backbone.")]
ImageSize = Annotated[
    int | None, option("Side of the square input in pixels (default: as recorded in the file).")
]


@app.command()
def build(
    out: Out,
    data: Data = None,
    vectors: Vectors = None,
    backbone: Annotated[str, option("The frozen backbone.")] = "lite0",
    weights: shared.Weights = None,
    image_size: Annotated[int | None, option("Side of the square input in pixels.")] = None,
    procedure: Annotated[str, option("auto, exact, or published.")] = "auto",
    measure: Annotated[
        str, option("The measure of shift: fid_class_means or nearest_class.")
    ] = "fid_class_means",
    n_splits: Annotated[str, option("Number of splits, evenly spaced in shift, or all.")] = "5",
    harder: Annotated[
        int | None, option("Largest number of swaps or iterations to harder splits.")
    ] = None,
    easier: Annotated[
        int | None, option("Largest number of swaps or iterations to easier splits.")
    ] = None,
    removal: Annotated[int | None, option("Number of removal iterations (published).")] = None,
    swaps: Annotated[int, option("Swaps per iteration (published).")] = 2,
    unit: Annotated[str, option("What is swapped: class or superclass (published).")] = ("class"),
    group: Annotated[
        str | None,
        option("Column of a table of images: classes with a common value stay together."),
    ] = None,
    time: Annotated[
        str | None, option("Column of dates or numbers: train on the earlier half of the classes.")
    ] = None,
    train_superclass: Annotated[
        list[str] | None, option("A superclass to train on at the start; may be repeated.")
    ] = None,
    validation: Annotated[
        float, option("Fraction of the train classes used for validation.")
    ] = 0.25,
    shots: Annotated[
        list[int] | None, option("Draw few-shot episodes with this many images; may be repeated.")
    ] = None,
    episodes: Annotated[int, option("Episodes per number of shots.")] = 10,
    controls: Annotated[
        int, option("Size-matched controls per smaller split, in OUT.controls.json.")
    ] = 0,
    seed: Annotated[int, option("Random seed for validation and episodes.")] = 0,
    device: shared.Device = None,
) -> None:
    """Build splits with growing shift for a collection of images or vectors.

    Example: `oodml splits build --data photos/ --out photos.json`
    """
    given = locals() | {
        "n_splits": n_splits if n_splits == "all" else _number(n_splits),
        "train_superclasses": tuple(train_superclass) if train_superclass else None,
    }
    from oodml.devices import resolve_device
    from oodml.embedding import embed
    from oodml.files import refuse_overwrite
    from oodml.shift.build import SplitSettings, build_progression
    from oodml.shift.controls import size_controls
    from oodml.shift.files import check_split_suffix, write_splits
    from oodml.vectors import VectorSet

    check_split_suffix(out)
    refuse_overwrite(out, vectors, data, weights)
    settings = shared.parse_options(SplitSettings, given)
    resolve_device(device)
    images = None if data is None else shared.open_data(data)
    if vectors is not None:
        features = VectorSet.load(vectors)
    elif images is not None:
        size = image_size
        features = embed(images, backbone, weights=weights, image_size=size, device=device)
    else:
        problem = "give --data (a dataset's name, a folder, or a table) or --vectors (a file)"
        raise OodmlError(problem, location="--data")
    progression = build_progression(features, settings, tuple(shots or ()), episodes, images)
    write_splits(progression, out)
    _print_splits(progression)
    typer.echo(f"wrote {out}")
    if controls:
        file = out.with_suffix(".controls.json")
        matched = size_controls(progression, features, range(controls))
        write_splits(matched, file)
        _print_splits(matched)
        typer.echo(f"wrote {file}")


@app.command()
def show(
    file: File,
    data: Data = None,
    vectors: Vectors = None,
    backbone: Annotated[
        str | None, option("The backbone for the map (default: that of the file).")
    ] = None,
    figure: Annotated[Path | None, option("Draw shift per step: .png, .pdf, or .svg.")] = None,
    maps: Annotated[Path | None, option("Draw the class means: .png, .pdf, or .svg.")] = None,
    page: Annotated[
        Path | None, option("Write the shifts and a map as an interactive .html page.")
    ] = None,
    step: Annotated[list[str] | None, option("A step to draw a map of; may be repeated.")] = None,
    umap: Annotated[bool, option("Use UMAP instead of PCA.")] = False,
    device: shared.Device = None,
) -> None:
    """Print a table of splits, and draw them.

    Maps, and the map on the page, require --data or --vectors.
    Example: `oodml splits show photos.json --data photos/ --figure fid.png --maps classes.png`
    """
    from oodml.files import refuse_overwrite, write_text
    from oodml.report import splits_figures as draw
    from oodml.report.examples import thumbnails
    from oodml.report.splits_figures import class_map
    from oodml.shift.files import read_splits

    for output in filter(None, (figure, maps, page)):
        refuse_overwrite(output, file, vectors, data)
    progression = read_splits(file)
    _print_splits(progression)
    images = None if data is None else shared.open_data(data)
    features = None
    if maps or (page and (data or vectors)):
        features = features_of_splits(progression, file, images, vectors, backbone, device=device)
    if figure:
        draw.save_figure(draw.shift_per_step(progression), figure)
    if maps and features is not None:
        draw.save_figure(draw.progression_maps(progression, features, step, umap), maps)
    if page:
        pictures = None
        if features is not None:
            pictures = thumbnails(images, class_map(features).samples, 64, 5_000_000)
        fragment = draw.progression_html(progression, features, pictures, True, umap)
        title = progression.data or "splits"
        write_text(page, f"<!doctype html><meta charset='utf-8'><title>{title}</title>{fragment}")
    for path in filter(None, (figure, maps, page)):
        typer.echo(f"wrote {path}")


@app.command(name="import")
def import_(file: File, out: Out, data: Data = None) -> None:
    """Convert a published pickle to JSON without running any code in it.

    With --data, support images are identified by the ids of its images.
    Example: `oodml splits import cars196_splits.pkl --out cars196.json`
    """
    from dataclasses import replace

    from oodml.files import refuse_overwrite
    from oodml.images.fingerprint import fingerprint
    from oodml.shift.episodes import fill_support
    from oodml.shift.files import check_split_suffix, read_splits, write_splits
    from oodml.shift.splits import check

    check_split_suffix(out)
    refuse_overwrite(out, file, data)
    progression = read_splits(file)
    if data is not None:
        images = shared.open_data(data)
        ids, classes = images.ids.tolist(), images.classes.tolist()
        progression = fill_support(progression, ids, classes)
        progression = replace(progression, data=images.name, fingerprint=fingerprint(images))
        check(progression, ids, classes)
    write_splits(progression, out)
    _print_splits(progression)
    typer.echo(f"wrote {out}")


@app.command()
def export(
    file: File,
    out: Annotated[Path, option("The file to write.")],
    kind: Annotated[
        str | None, option("json, pickle, csv, or torch (default: by the suffix).", "--format")
    ] = None,
) -> None:
    """Write splits for other tools; "pickle" is the layout of the original code, in plain values.

    Example: `oodml splits export photos.json --format csv --out photos.csv`
    """
    from oodml.errors import unknown
    from oodml.files import refuse_overwrite
    from oodml.shift.files import FORMATS, export_splits, read_splits

    suffixes = {suffix: name for name, suffix in FORMATS.items()}
    if kind is None and out.suffix not in suffixes:
        raise unknown("suffix", out.suffix, suffixes, str(out))
    refuse_overwrite(out, file)
    export_splits(read_splits(file), out, kind or suffixes[out.suffix])
    typer.echo(f"wrote {out}")


@app.command()
def describe(file: File) -> None:
    """Print the paragraph and the table of these splits for a paper's method section.

    Example: `oodml splits describe photos.json`
    """
    from oodml.shift.files import describe_splits, read_splits

    typer.echo(describe_splits(read_splits(file)))


@app.command()
def check(file: File, data: Data = None) -> None:
    """Check a split file for consistency, and with --data also against its images.

    Example: `oodml splits check photos.json --data photos/`
    """
    from oodml.images.fingerprint import fingerprint
    from oodml.shift.files import read_splits
    from oodml.shift.splits import find_data_problems

    progression = read_splits(file)
    if data is not None:
        images = shared.open_data(data)
        problems = find_data_problems(progression, images.ids.tolist(), images.classes.tolist())
        for problem in problems[:20]:
            typer.echo(problem)
        if problems:
            raise error_at(file, f"{len(problems)} mismatches with {images.name}")
        current = fingerprint(images)
        if progression.fingerprint not in ("", current):
            typer.echo(
                f"{images.name} has changed since the splits were built (fingerprint {current}, "
                f"in the file {progression.fingerprint}), but contains everything they refer to"
            )
    typer.echo(f"{file}: {len(progression)} splits, no problems")


@app.command()
def backbones(
    file: File,
    data: Annotated[str, option("A dataset's name, a folder, or a table.")],
    backbones: Annotated[str, option("Frozen backbones, separated by commas; at least two.")],
    image_size: ImageSize = None,
    weights: Annotated[
        str | None, option("Weights file of the backbone that the splits were built on.")
    ] = None,
    figure: Annotated[
        Path | None, option("Draw the shifts under each backbone: .png, .pdf, or .svg.")
    ] = None,
    device: shared.Device = None,
) -> None:
    """Measure the same splits with several backbones: does their order depend on the network?

    Example: `oodml splits backbones glyphs.json --data glyphs --backbones lite0,pixels`
    """
    from oodml.files import refuse_overwrite
    from oodml.shift.controls import backbone_agreement
    from oodml.shift.files import read_splits

    if figure:
        refuse_overwrite(figure, file, data, weights)
    progression, images = read_splits(file), shared.open_data(data)
    features = {}
    for name in backbones.split(","):
        own = weights if name == progression.backbone else None
        features[name] = features_of_splits(
            progression, file, images, None, name, own, image_size, device
        )
    agreement = backbone_agreement(progression, features)
    _print_agreement(agreement)
    if figure:
        from oodml.report.splits_figures import agreement_figure, save_figure

        save_figure(agreement_figure(agreement), figure)
        typer.echo(f"wrote {figure}")


def features_of_splits(
    progression: "Progression",
    file: Path,
    images: "ImageSet | None",
    vectors: Path | None,
    backbone: str | None = None,
    weights: str | None = None,
    image_size: int | None = None,
    device: str | None = None,
) -> "VectorSet":
    """The features to measure splits on, with the backbone and input that they were built with.

    Options override what the file records. If it records no input, the assumption is printed.
    """
    from oodml.embedding import embed
    from oodml.shift.splits import recorded_features
    from oodml.vectors import VectorSet

    if vectors is not None:
        return VectorSet.load(vectors)
    if images is None:
        raise OodmlError("give --data or --vectors to measure the splits on", location="--data")
    recorded = recorded_features(progression)
    name = backbone or progression.backbone or "lite0"
    size = recorded.get("image_size")
    options: dict[str, Any] = {
        "image_size": image_size or (size if isinstance(size, int) else None),
        "augmentation": recorded.get("augmentation", "base"),
        "pooling": recorded.get("pooling", "avg"),
        "weights": weights,
    }
    if "image_size" not in recorded and image_size is None:
        typer.echo(
            f"{file} does not record the size of its input images; assuming that of {name}. "
            "Set it with --image-size",
            err=True,
        )
    if name == progression.backbone:
        options["weights"] = _weights(file, recorded.get("weights", "own"), weights)
    return embed(images, name, device=device, **options)


def _weights(file: Path, recorded: str, given: str | None) -> str | None:
    """The weights of the backbone that splits were built on; the file records a hash of them."""
    from oodml.embedding import weights_key

    if given is not None:
        if weights_key(given) != recorded:
            typer.echo(f"{file} was built with other weights ({recorded}) than {given}", err=True)
        return given
    if recorded in ("own", "none"):
        return None if recorded == "own" else "none"
    problem = f"{file} was built with the weights file {recorded}; pass it as --weights"
    raise OodmlError(problem, "--weights", None)


def _number(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def _print_splits(progression: "Progression") -> None:
    about = [progression.data, progression.backbone, progression.procedure]
    fid = progression.shift_measure == "fid_class_means"
    shift = "FID" if fid else progression.shift_measure
    rows = []
    for split in progression:
        episodes = ", ".join(
            f"{len(drawn)}×{shots}{' by class' if drawn and drawn[0].class_wise else ''}"
            for shots, drawn in split.episodes.items()
        )
        counts = (len(split.train), len(split.test), len(split.validation))
        rows.append((str(split.step), f"{split.shift:.4g}", *map(str, counts), episodes))
    heads = ("step", shift, "train", "test", "validation", "episodes")
    shared.print_table(", ".join(filter(None, about)), heads, rows)


def _print_agreement(agreement: "Agreement") -> None:
    rows = []
    for row, name in enumerate(agreement.backbones):
        shifts = (f"{shift:.4g}" for shift in agreement.shifts[row])
        ranks = (agreement.spearman[0, row], agreement.kendall[0, row])
        rows.append((name, *shifts, *(f"{value:.3f}" for value in ranks)))
    heads = ("backbone", *map(str, agreement.steps), "Spearman", "Kendall")
    shared.print_table("FID of class means; rank correlation with the first backbone", heads, rows)
    typer.echo(f"largest difference between FIDs scaled to 0–1: {agreement.largest_gap:.3f}")
