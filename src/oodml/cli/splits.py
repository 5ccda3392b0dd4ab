"""`oodml splits …`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import oodml
from oodml.cli import shared
from oodml.cli.shared import Count, Counts, Text, Words, many, option, output
from oodml.errors import OodmlError, error_at

_FORMAT = "Format of the output: json, pickle, csv, or torch."
_NAMES = {"fid_class_means": "FID"}
search, sides = partial(option, panel="Search"), partial(option, panel="Classes")
_STANDARD = "the train part, else the first half of the classes"
_FURTHEST = "swaps (exact; default: all) or iterations (published; default:"


@dataclass(kw_only=True)
class BuildOptions(shared.FeatureOptions):
    """The options of `oodml splits build`."""

    out: Annotated[Path, option("File to write: .json or .pkl.")]
    backbone: Annotated[Text, shared.backbone_option(unset="lite0")] = None
    weights: shared.Weights = None
    image_size: shared.ImageSize = None
    n_splits: shared.NSplits = "5"
    procedure: Annotated[str, search("auto, exact, or published.")] = "auto"
    measure: Annotated[str, search("Measure of shift: fid_class_means or nearest_class.")] = (
        "fid_class_means"
    )
    harder: Annotated[Count, search(f"Largest number of {_FURTHEST} 25) to harder splits.")] = None
    easier: Annotated[Count, search(f"Largest number of {_FURTHEST} 15) to easier splits.")] = None
    removal: Annotated[Count, search("Removal iterations (published; default: none).")] = None
    swaps: Annotated[int, search("Swaps per iteration (published).")] = 2
    unit: Annotated[str, search("What is swapped: class or superclass (published).")] = "class"
    group: Annotated[Text, sides("Column: classes that share a value stay together.")] = None
    time: Annotated[Text, sides("Column: train on the earlier half of the classes.")] = None
    train_superclass: Annotated[Words, many("Superclass to train on.", unset=_STANDARD)] = None
    validation: Annotated[float, sides("Share of the train classes for validation.")] = 0.25
    shots: Annotated[Counts, many("Images per class of few-shot episodes.", int)] = None
    episodes: Annotated[int, option("Episodes per number of shots.")] = 10
    controls: Annotated[int, option("Size-matched controls per smaller split.")] = 0
    seed: shared.Seed = 0


def build(given: BuildOptions) -> None:
    """Build splits with growing shift for a collection of images or vectors.

    Example: `oodml splits build --data photos/ --out photos.json`
    """
    from oodml.devices import resolve_device
    from oodml.shift.build import SplitSettings, build_progression
    from oodml.shift.controls import size_controls
    from oodml.shift.files import check_split_suffix

    out, data, vectors = given.out, given.data, given.vectors
    check_split_suffix(out)
    shared.check_outputs([out], vectors, data, given.weights)
    superclasses = tuple(given.train_superclass or ()) or None
    own = {"train_superclasses": superclasses, "backbone": given.backbone or "lite0"}
    settings = shared.parse_options(SplitSettings, vars(given) | own)
    resolve_device(given.device)
    images = None if data is None else shared.open_data(data)
    if vectors is not None:
        features = oodml.VectorSet.load(vectors)
    elif images is not None:
        options: Any = {"weights": given.weights, "image_size": given.image_size}
        features = oodml.embed(images, settings.backbone, device=given.device, **options)
    else:
        problem = "give --data (a dataset's name, a folder, or a table) or --vectors (a file)"
        raise OodmlError(problem, location="--data")
    shots = tuple(given.shots or ())
    progression = build_progression(features, settings, shots, given.episodes, images)
    oodml.write_splits(progression, out)
    tables = [_table(progression)]
    if given.controls:
        file = out.with_suffix(".controls.json")
        shared.check_outputs([file])
        matched = size_controls(progression, features, range(given.controls))
        oodml.write_splits(matched, file)
        tables.append(_table(matched))
    following = ("splits", "show", out, "--figure", "shift.png")
    shared.show(f"{out}: {_summary(progression)}", *tables, next=following)


def show(
    file: shared.SplitFile,
    given: shared.FeatureOptions,
    figure: shared.Figure = None,
    maps: Annotated[Path | None, output("Draw the class means: .png, .pdf, or .svg.")] = None,
    page: shared.Page = None,
    step: Annotated[Words, many("Step of the progression.", unset="three for --maps")] = None,
) -> None:
    """Print a table of splits, and draw them.

    Maps, and the map on the page, require --data or --vectors.

    Example: `oodml splits show photos.json --data photos/ --figure fid.png --maps classes.png`
    """
    from oodml.files import write_text
    from oodml.report import splits_figures as draw
    from oodml.report.examples import thumbnails

    shared.check_outputs([figure, maps, page], file, given.vectors, given.data)
    progression = oodml.read_splits(file)
    if figure:
        draw.save_figure(draw.shift_per_step(progression), figure)
    images = features = pictures = None
    if maps or (page and (given.data or given.vectors)):
        images = None if given.data is None else shared.open_data(given.data)
        features = features_of(progression, file, images, given)
    if maps and features is not None:
        draw.save_figure(draw.progression_maps(progression, features, step), maps)
    if page:
        if features is not None:
            pictures = thumbnails(images, draw.class_map(features).samples, 64, 5_000_000)
        write_text(page, draw.splits_page(progression, features, pictures))
    table = _table(progression)
    shared.show(
        f"{file}: {_summary(progression)}",
        table,
        next=("splits", "describe", file),
        json=[dict(zip(table.heads, row, strict=True)) for row in table.rows],
    )


def export(
    file: shared.SplitFile,
    out: Annotated[Path, option("File to write: .json, .pkl, .csv, or .pt.")],
    kind: Annotated[Text, option(_FORMAT, "--format", unset="by suffix")] = None,
    data: shared.Data = None,
) -> None:
    """Write splits in another format; no code in a published pickle is run.

    "pickle" is the layout of the original code, in plain values. With --data, support images are
    identified by the ids of its images.

    Example: `oodml splits export cars196_splits.pkl --out cars196.json`
    """
    from dataclasses import replace

    from oodml.errors import unknown
    from oodml.images.fingerprint import fingerprint
    from oodml.shift.episodes import fill_support
    from oodml.shift.files import FORMATS, export_splits
    from oodml.shift.splits import check

    suffixes = {suffix: name for name, suffix in FORMATS.items()}
    if kind is None and out.suffix not in suffixes:
        raise unknown("suffix", out.suffix, suffixes, str(out))
    shared.check_outputs([out], file, data)
    progression = oodml.read_splits(file)
    if data is not None:
        images = shared.open_data(data)
        ids, classes = images.ids.tolist(), images.classes.tolist()
        progression = fill_support(progression, ids, classes)
        progression = replace(progression, data=images.name, fingerprint=fingerprint(images))
        check(progression, ids, classes)
    export_splits(progression, out, kind or suffixes[out.suffix])
    sentence = f"{out}: {_summary(progression)}"
    shared.show(sentence, _table(progression), next=("splits", "describe", file))


def describe(file: shared.SplitFile) -> None:
    """Print the paragraph and the table of these splits for a paper's method section.

    Example: `oodml splits describe photos.json`
    """
    from oodml.shift.files import describe_splits

    text = describe_splits(oodml.read_splits(file))
    shared.show(text, next=("splits", "export", file, "--out", file.with_suffix(".csv")))


def check(file: shared.SplitFile, data: shared.Data = None) -> None:
    """Check a split file for consistency, and with --data also against its images.

    Example: `oodml splits check photos.json --data photos/`
    """
    from oodml.images.fingerprint import fingerprint
    from oodml.shift.splits import find_data_problems

    progression = oodml.read_splits(file)
    sentences = [f"{file}: {len(progression)} splits, no problems"]
    if data is not None:
        images = shared.open_data(data)
        problems = find_data_problems(progression, images.ids.tolist(), images.classes.tolist())
        for problem in problems[:20]:
            typer.echo(problem, err=True)
        if problems:
            raise error_at(file, f"{len(problems)} mismatches with {images.name}")
        current = fingerprint(images)
        if progression.fingerprint not in ("", current):
            sentences.append(
                f"{images.name} has changed since the splits were built (fingerprint {current}, "
                f"in the file {progression.fingerprint}), but contains everything they refer to"
            )
    shared.show(sentences, next=("splits", "show", file))


def backbones(
    file: shared.SplitFile,
    data: shared.RequiredData,
    backbones: Annotated[list[str], many("Frozen networks: two or more, as for --backbone.")],
    image_size: Annotated[Count, shared.size_option(unset="that of the splits")] = None,
    weights: Annotated[Text, shared.weights_option(unset="as recorded")] = None,
    figure: shared.Figure = None,
    device: shared.Device = None,
) -> None:
    """Measure the same splits with several backbones: does their order depend on the network?

    --weights applies to the network that built the splits; the others are pretrained.

    Example: `oodml splits backbones glyphs.json --data glyphs --backbones lite0,pixels`
    """
    from oodml.shift.controls import backbone_agreement

    shared.check_outputs([figure], file, data, weights)
    progression, images = oodml.read_splits(file), shared.open_data(data)
    features = {}
    for name in backbones:
        own = weights if name == progression.backbone else None
        given = shared.FeatureOptions(
            backbone=name, weights=own, image_size=image_size, device=device
        )
        features[name] = features_of(progression, file, images, given)
    agreement = backbone_agreement(progression, features)
    if figure:
        from oodml.report.splits_figures import agreement_figure, save_figure

        save_figure(agreement_figure(agreement), figure)
    rows = zip(
        agreement.backbones, agreement.shifts.tolist(), agreement.spearman[0].tolist(),
        agreement.kendall[0].tolist(), strict=True,
    )  # fmt: skip
    keys = ("backbone", "shifts", "spearman", "kendall")
    values = [dict(zip(keys, row, strict=True)) for row in rows]
    columns = {"backbone": "{backbone}"}
    columns |= {str(s): f"{{shifts[{i}]:.4g}}" for i, s in enumerate(agreement.steps)}
    columns |= {"Spearman": "{spearman:.3f}", "Kendall": "{kendall:.3f}"}
    worst, gap = min(agreement.spearman[0].tolist()), agreement.largest_gap
    shared.show(
        f"The order of the splits agrees with that of {backbones[0]} by a rank correlation of at "
        f"least {worst:.3f}; FIDs scaled to 0–1 differ by at most {gap:.3f}.",
        shared.Table.of(
            values, columns, "FID of class means; rank correlation with the first backbone"
        ),
        next=("splits", "describe", file),
        json=values,
    )


def features_of(
    progression: "oodml.Progression",
    file: Path,
    images: "oodml.ImageSet | None",
    given: shared.FeatureOptions,
) -> "oodml.VectorSet":
    """The features to measure splits on, with the backbone and input that they were built with.

    Options override what the file records. If it records no input, the assumption is printed.
    """
    from oodml.embedding import weights_key
    from oodml.shift.splits import recorded_features

    if given.vectors is not None:
        return oodml.VectorSet.load(given.vectors)
    if images is None:
        raise OodmlError("give --data or --vectors to measure the splits on", location="--data")
    recorded, weights = recorded_features(progression), given.weights
    name = given.backbone or progression.backbone or "lite0"
    size = recorded.get("image_size")
    if "image_size" not in recorded and given.image_size is None:
        assumed = f"assuming that of {name}. Set it with --image-size"
        typer.echo(f"{file} does not record the size of its input images; {assumed}", err=True)
    if name == progression.backbone:
        own = recorded.get("weights", "own")
        if weights is None and own not in ("own", "none"):
            problem = f"{file} was built with the weights file {own}; pass it as --weights"
            raise OodmlError(problem, "--weights", None)
        if weights is not None and weights_key(weights) != own:
            typer.echo(f"{file} was built with other weights ({own}) than {weights}", err=True)
        weights = weights or ("none" if own == "none" else None)
    size = given.image_size or (size if isinstance(size, int) else None)
    options: dict[str, Any] = {"image_size": size, "pooling": recorded.get("pooling", "avg")}
    options["augmentation"] = recorded.get("augmentation", "base")
    return oodml.embed(images, name, weights=weights, device=given.device, **options)


def _summary(progression: "oodml.Progression") -> str:
    shifts, measure = [split.shift for split in progression], progression.shift_measure
    made = filter(None, (progression.data, progression.backbone, progression.procedure))
    extent = f"{_NAMES.get(measure, measure)} {min(shifts):.4g} to {max(shifts):.4g}"
    return f"{len(progression)} splits, {extent} ({', '.join(made)})"


def _table(progression: "oodml.Progression") -> shared.Table:
    rows = []
    for split in progression:
        episodes = ", ".join(
            f"{len(drawn)}×{shots}{' by class' if drawn and drawn[0].class_wise else ''}"
            for shots, drawn in split.episodes.items()
        )
        counts = (len(split.train), len(split.test), len(split.validation))
        rows.append((str(split.step), f"{split.shift:.4g}", *map(str, counts), episodes))
    measure = progression.shift_measure
    heads = ("step", _NAMES.get(measure, measure), "train", "test", "validation", "episodes")
    return shared.Table("", heads, rows)
