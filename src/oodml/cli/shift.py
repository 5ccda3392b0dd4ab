"""`oodml shift`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oodml.cli import shared
from oodml.cli.shared import argument, option
from oodml.cli.splits import features_of_splits
from oodml.errors import OodmlError

if TYPE_CHECKING:
    from oodml.shift.measures import ShiftReport
    from oodml.vectors import VectorSet


def shift(
    a: Annotated[
        str | None, argument("The training data: a dataset's name, a folder, or a vector file.")
    ] = None,
    b: Annotated[
        str | None, argument("The new data: a dataset's name, a folder, or a vector file.")
    ] = None,
    splits: Annotated[
        Path | None, option("A split file: measure train against test classes.")
    ] = None,
    step: Annotated[str | None, option("The step of the split (default: the last one).")] = None,
    vectors: Annotated[Path | None, option("A file of vectors for --splits.")] = None,
    data: Annotated[str | None, option("The data for --splits.")] = None,
    backbone: Annotated[
        str | None, option("The frozen backbone (default: that of the splits, or lite0).")
    ] = None,
    weights: shared.Weights = None,
    image_size: Annotated[
        int | None, option("Side of the square input in pixels (default: that of the splits).")
    ] = None,
    pooling: Annotated[str, option("How A and B are pooled, as in `oodml embed`.")] = "model",
    measure: Annotated[
        list[str] | None, option("A measure; may be repeated (default: all fast ones).")
    ] = None,
    bootstrap: Annotated[
        int, option("Number of resamples for intervals; 0 for none.", min=0)
    ] = 100,
    seed: shared.Seed = 0,
    background: shared.Background = None,
    device: shared.Device = None,
    json: shared.Json = False,
    more: Annotated[
        list[Path] | None, argument("With --test: further files of new vectors.")
    ] = None,
    test: Annotated[
        bool, option("Test whether the images of B are like those of A; needs no labels.", "--test")
    ] = False,
    fail_above: Annotated[
        float | None,
        option(
            "With --test: exit with status 1 if the drift of a file is higher; above 1 is more "
            "than chance."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="With --test: RESULTS:METHOD, a method of a study, to forecast the change of its "
            "Recall@1. The files then contain features of the study's network."
        ),
    ] = None,
    page: Annotated[
        Path | None, option("With --test: write a page with chart and new clusters.")
    ] = None,
) -> None:
    """Measure the shift from A to B: two folders, two vector files, or the sides of a split.

    Example: `oodml shift train_photos/ new_catalog/`
    """
    from oodml.devices import resolve_device
    from oodml.shift.files import read_splits
    from oodml.shift.measures import find_measure, shift_report

    if test:
        from oodml.cli.decisions import test_drift

        test_drift(a, [Path(name) for name in (b, *(more or ())) if name], seed, fail_above, page,
                   data, model, json)  # fmt: skip
        return
    resolve_device(device)
    for name in measure or ():
        find_measure(name)
    if splits is not None:
        if a is not None:
            raise OodmlError("give either A and B or --splits, not both", location="--splits")
        if vectors is None and data is None:
            raise OodmlError("--splits requires --vectors or --data", location="--splits")
        progression = read_splits(splits)
        split = progression[-1] if step is None else progression.at(step)
        images = None
        if vectors is None and data is not None:
            images = shared.open_data(data, background=background)
        source = (images, vectors, backbone, weights, image_size, device)
        features = features_of_splits(progression, splits, *source)
        first, second = features.subset(split.train), features.subset(split.test)
    elif a is None or b is None:
        raise OodmlError("give A and B, two folders or vector files, or --splits", location="A B")
    else:
        options = {"weights": weights, "image_size": image_size, "pooling": pooling}
        options["device"] = device
        first, second = (_load(n, backbone or "lite0", background, options) for n in (a, b))
    report = shift_report(first, second, measure or None, n_bootstrap=bootstrap, seed=seed)
    if json:
        shared.print_json(report.as_dict())
        return
    _print_report(report)


COMMANDS = (shift,)


def _load(name: str, backbone: str, background: str | None, options: dict[str, Any]) -> "VectorSet":
    from oodml.vector_files import SUFFIXES
    from oodml.vectors import VectorSet

    path = Path(name)
    # A table of images can be a .parquet file, too; its columns distinguish it from vectors.
    if path.suffix in SUFFIXES and path.is_file() and not _is_table_of_images(path):
        return VectorSet.load(path)
    from oodml.embedding import embed

    return embed(shared.open_data(name, background=background), backbone, **options)


def _is_table_of_images(path: Path) -> bool:
    if path.suffix != ".parquet":
        return False
    import pyarrow
    from pyarrow.parquet import read_schema

    try:
        return "path" in read_schema(path).names
    except (OSError, pyarrow.ArrowException):  # damaged; reading it as vectors reports the error
        return False


def _print_report(report: "ShiftReport") -> None:
    rows = []
    for shift in report:
        interval = "" if shift.low is None else f"{shift.low:.4g} – {shift.high:.4g}"
        chance = "" if shift.chance is None else f"{shift.chance:.4g}"
        value = "undefined" if shift.value is None else f"{shift.value:.4g}"
        rows.append((shift.measure, value, interval, chance, shift.note))
    sides = zip("AB", report.images, report.classes, strict=True)
    title = ", ".join(f"{name}: {n} images of {classes} classes" for name, n, classes in sides)
    shared.print_table(title, ("measure", "value", "interval", "by chance", "note"), rows, ["note"])
    typer.echo(
        "interval: 95%, over classes. by chance: permutation baseline, the value expected from "
        "sampling alone"
    )
