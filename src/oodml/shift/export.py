"""Splits for other tools: JSON, the original pickle, CSV, and PyTorch; and for a paper's text."""

import csv
import io
from importlib.metadata import version
from pathlib import Path
from typing import Any

from oodml.errors import unknown
from oodml.files import replacing, write_text
from oodml.shift.files import write_splits
from oodml.shift.splits import Progression

FORMATS = {"json": ".json", "pickle": ".pkl", "csv": ".csv", "torch": ".pt"}
_MEASURES = {
    "fid_class_means": "the Fréchet distance (FID) between the class means of its features",
    "nearest_class": "the distance of each test class to its nearest training class",
}


def export_splits(progression: Progression, path: Path, kind: str) -> None:
    """Write splits in a format of `FORMATS`.

    "csv" has the columns step, shift, part (train, validation, or test), and class; validation
    classes are also training classes. "torch" is a list of dictionaries of plain values, which
    `torch.load(path, weights_only=True)` reads.
    """
    if kind not in FORMATS:
        raise unknown("format", kind, FORMATS, "--format")
    if kind in ("json", "pickle"):
        write_splits(progression, path)
    elif kind == "csv":
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["step", "shift", "part", "class"])
        for split in progression:
            for part in ("train", "validation", "test"):
                names = getattr(split, part)
                writer.writerows([split.step, split.shift, part, name] for name in names)
        write_text(path, stream.getvalue())
    else:
        import torch

        with replacing(path) as temporary:
            torch.save([_plain(split) for split in progression], temporary)


def describe_splits(progression: Progression) -> str:
    """The paragraph and the table (Markdown) of a paper's method section."""
    shifts = [split.shift for split in progression]
    removed = any(str(split.step).startswith("R") for split in progression)
    seed = "" if progression.seed is None else f" (seed {progression.seed})"
    data = progression.data or "the dataset"
    fingerprint = f" (fingerprint {progression.fingerprint})" if progression.fingerprint else ""
    measure = _MEASURES.get(progression.shift_measure, progression.shift_measure)
    network = f" of {progression.backbone}" if progression.backbone else ""
    text = (
        f"We evaluate on {len(progression)} splits of {data}{fingerprint} into disjoint training "
        f"and test classes, with a shift of {min(shifts):.1f} to {max(shifts):.1f}. Shift is "
        f"{measure.replace('its features', f'frozen features{network}')}. Splits are built by the "
        f'procedure "{progression.procedure}" of oodml {version("oodml")}{seed}, which moves '
        "classes between the sides"
    )
    text += " and then removes classes from both. " if removed else ". "
    text += (
        "Models are selected on validation classes, a part of the training classes, and never on "
        "test classes. Following Milbich et al. (2021), splits are named by their number of swaps."
    )
    rows = [
        "| split | shift | training classes | validation | test classes |",
        "|---|---|---|---|---|",
    ]
    rows += [
        f"| {one.step} | {one.shift:.2f} | {len(one.train)} | {len(one.validation)} | "
        f"{len(one.test)} |"
        for one in progression
    ]
    return "\n".join([text, "", *rows])


def _plain(split: Any) -> dict[str, Any]:
    lists = {part: list(getattr(split, part)) for part in ("train", "validation", "test")}
    return {"step": split.step, "shift": float(split.shift), **lists}
