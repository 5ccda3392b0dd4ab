"""`oodml shift`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

import oodml
from oodml.cli import shared
from oodml.cli.shared import Number, Text, Words, argument, many, option, source
from oodml.cli.splits import features_of
from oodml.errors import OodmlError

drift = partial(option, panel="Drift")
side = partial(argument, callback=shared.named_vectors)
_SIDE = "images (a dataset's name, a folder, or a table), or a file of vectors."


@dataclass(kw_only=True)
class ShiftOptions(shared.FeatureOptions):
    """The options of `oodml shift`."""

    a: Annotated[Text, side(f"The training data: {_SIDE}")] = None
    b: Annotated[Text, side(f"The new data: {_SIDE}")] = None
    more: Annotated[list[Path] | None, argument("With --test: further files of vectors.")] = None
    splits: shared.Splits = None
    step: Annotated[Text, source("Step of the progression.", unset="the last one")] = None
    background: shared.Background = None
    pooling: Annotated[str, shared.pooling_option()] = "model"
    measure: Annotated[Words, many("Measure of shift.", unset="all fast ones")] = None
    resamples: shared.Resamples = 100
    seed: shared.Seed = 0
    test: Annotated[bool, drift("Test vectors B for drift from A, without labels.")] = False
    fail_above: Annotated[Number, drift("Exit with status 1 above this drift; 1 is chance.")] = None
    model: Annotated[Text, drift("Model: RESULTS:METHOD, whose change to forecast.")] = None
    page: shared.Page = None


def shift(given: ShiftOptions) -> None:
    """Measure the shift from A to B: images, vectors, or the train and test classes of a split.

    With --splits, give --data or --vectors instead of A and B.

    Example: `oodml shift train_photos/ new_catalog/` or `oodml shift old.npz new.npz --test`
    """
    from oodml.devices import resolve_device
    from oodml.shift.measures import find_measure

    if given.test:
        _test_drift(given)
        return
    resolve_device(given.device)
    for name in given.measure or ():
        find_measure(name)
    file = given.splits
    first, second = _load_sides(given) if file is None else _split_sides(file, given)
    options: Any = {"n_bootstrap": given.resamples, "seed": given.seed}
    report = oodml.shift_report(first, second, given.measure, **options)
    test = ("shift", given.a, given.b, "--test")
    rows = []
    for shift in report:
        interval = "" if shift.low is None else f"{shift.low:.4g} – {shift.high:.4g}"
        chance = "" if shift.chance is None else f"{shift.chance:.4g}"
        value = "undefined" if shift.value is None else f"{shift.value:.4g}"
        rows.append((shift.measure, value, interval, chance, shift.note))
    measure, value, interval, chance, _ = rows[0]
    known = (f"95% interval {interval}" if interval else "", chance and f"{chance} by chance alone")
    details = "; ".join(filter(None, known))
    sides = zip("AB", report.images, report.classes, strict=True)
    shared.show(
        [
            f"The shift from A to B is {value} ({measure}{'; ' * bool(details)}{details}).",
            *(f"{name}: {n} images of {classes} classes" for name, n, classes in sides),
            "Intervals are over classes. By chance: expected from sampling alone (permutations).",
        ],
        shared.Table("", ("measure", "value", "95% interval", "by chance", "note"), rows, ["note"]),
        next=test if file is None else ("splits", "describe", file),
        json=report.as_dict(),
    )


def _split_sides(file: Path, given: ShiftOptions) -> list["oodml.VectorSet"]:
    """The features of the train and the test classes of a split."""
    if given.a is not None:
        raise OodmlError("give either A and B or --splits, not both", location="--splits")
    if given.vectors is None and given.data is None:
        raise OodmlError("--splits requires --vectors or --data", location="--splits")
    progression, images = oodml.read_splits(file), None
    split = progression[-1] if given.step is None else progression.at(given.step)
    if given.vectors is None and given.data is not None:
        images = shared.open_data(given.data, background=given.background)
    features = features_of(progression, file, images, given)
    return [features.subset(split.train), features.subset(split.test)]


def _load_sides(given: ShiftOptions) -> list["oodml.VectorSet"]:
    from oodml.datasets import is_vector_file

    if given.a is None or given.b is None:
        raise OodmlError("give A and B, two folders or vector files, or --splits", location="A B")
    sides = []
    options = {key: getattr(given, key) for key in ("weights", "image_size", "pooling", "device")}
    for name in (given.a, given.b):
        if (path := Path(name)).is_file() and is_vector_file(path):
            sides.append(oodml.VectorSet.load(path))
        else:
            images = shared.open_data(name, background=given.background)
            sides.append(oodml.embed(images, given.backbone or "lite0", **options))
    return sides


def _test_drift(given: ShiftOptions) -> None:
    """Print the drift of files of new vectors; exit with status 1 if one is above the limit."""
    from dataclasses import replace

    from oodml.analysis.formatting import format_points
    from oodml.decisions.drift import drift
    from oodml.forecasting.target import forecast_changes
    from oodml.report.folder import read_folder

    files = [Path(name) for name in (given.b, *(given.more or ())) if name]
    if given.a is None or not files:
        raise OodmlError("--test needs two or more files of vectors", location="--test")
    known_file, model = Path(given.a), given.model
    shared.check_outputs([given.page], known_file, *files)
    known = oodml.VectorSet.load(known_file, labels="")
    new = {file.name: oodml.VectorSet.load(file, labels="") for file in files}
    results = {name: drift(known, vectors, given.seed) for name, vectors in new.items()}
    if model is not None:
        folder, colon, method = model.rpartition(":")
        if not colon:
            raise OodmlError(f"--model {model}: expected RESULTS:METHOD", "--model", model)
        changes = forecast_changes(read_folder(folder), method, known, new, given.seed)
        results = {name: replace(one, change=changes[name]) for name, one in results.items()}
    if given.page is not None:
        from oodml.report.decision_figures import write_drift_page

        images = None if given.data is None else shared.open_data(given.data)
        write_drift_page(given.page, known_file.name, results, images)
    sentences = [f"{name}: {one.verdict}" for name, one in results.items()]
    for name, one in results.items():
        if one.change is not None:
            change, low, high = (format_points(value, sign=True) for value in one.change)
            change += f" points (80% interval {low} to {high})"
            sentences.append(f"{name}: Recall@1 of {model} is expected to change by {change}.")
    further = ("--model", "RESULTS:METHOD") if given.page else ("--page", "drift.html")
    following = ("shift", known_file, *files, "--test", *further)
    rows = [
        (name, f"{one.value:.3f}", f"{one.p:.3g}",
         f"{len(one.clusters)} ({sum(map(len, one.clusters))} images)")
        for name, one in results.items()
    ]  # fmt: skip
    shared.show(
        sentences,
        shared.Table(f"against {known_file.name}", ("file", "drift", "p", "new clusters"), rows),
        next=("report", model.partition(":")[0]) if given.page and model else following,
        json={name: result.as_dict() for name, result in results.items()},
    )
    limit = float("inf") if given.fail_above is None else given.fail_above
    if any(one.value > limit for one in results.values()):
        raise typer.Exit(1)
