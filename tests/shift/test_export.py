"""Splits for other tools, and published files that are recognized."""

import csv
import pickle
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from oodml.cli import app
from oodml.errors import OodmlError
from oodml.shift.files import (
    PUBLISHED_FILES,
    describe_splits,
    export_splits,
    read_splits,
    write_splits,
)
from oodml.shift.splits import Progression, Split

SPLITS = Progression(
    (
        Split(0, ("a", "b", "c, d"), ("e", "f"), 12.5, ("a",)),
        Split("R2", ("b", "e"), ("f", "a"), 20.25),
    ),
    "published", data="letters", backbone="lite0", seed=3,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["json", "pickle"])
def test_formats_that_are_read_again(tmp_path: Path, kind: str) -> None:
    path = tmp_path / {"json": "a.json", "pickle": "a.pkl"}[kind]
    export_splits(SPLITS, path, kind)
    again = read_splits(path)
    assert [(one.step, one.train, one.test, one.validation) for one in again] == [
        (one.step, one.train, one.test, one.validation) for one in SPLITS
    ]


def test_csv_and_torch_contain_every_class_of_every_split(tmp_path: Path) -> None:
    write_splits(SPLITS, tmp_path / "a.json")
    for suffix in (".csv", ".pt"):
        words = [
            "splits",
            "export",
            str(tmp_path / "a.json"),
            "--out",
            str(tmp_path / f"a{suffix}"),
        ]
        assert CliRunner().invoke(app, words).exit_code == 0
    with (tmp_path / "a.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    loaded = torch.load(tmp_path / "a.pt", weights_only=True)
    for split, plain in zip(SPLITS, loaded, strict=True):
        for part in ("train", "validation", "test"):
            expected = [*getattr(split, part)]
            result = [row["class"] for row in rows
                     if (row["step"], row["part"]) == (str(split.step), part)]  # fmt: skip
            assert expected == result == plain[part]
        assert plain["shift"] == split.shift


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OodmlError) as caught:
        export_splits(SPLITS, tmp_path / "a.yaml", "yaml")
    assert "csv" in caught.value.allowed


def test_the_description_states_what_a_reader_needs() -> None:
    text = describe_splits(SPLITS)
    for fact in ("letters", "lite0", "12.5", "20.2", "seed 3", "| R2 | 20.25 | 2 | 0 | 2 |"):
        assert fact in text


def test_published_files_are_recognized_by_their_fids(tmp_path: Path) -> None:
    for name, published in PUBLISHED_FILES.items():
        if published.sha256:
            continue
        splits = {
            number: {"train": ["a", "b"], "test": ["c", "d"], "fid": fid + 0.004}
            for number, fid in enumerate(published.fids, start=1)
        }
        (tmp_path / "any.pkl").write_bytes(pickle.dumps(splits))
        read = read_splits(tmp_path / "any.pkl")
        assert (read.data, [one.step for one in read]) == (published.data, [*published.steps])
        splits[1]["fid"] += 0.1
        (tmp_path / name).write_bytes(pickle.dumps(splits))
        with pytest.warns(UserWarning, match=name):
            assert read_splits(tmp_path / name).data == ""
