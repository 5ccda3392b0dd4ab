"""Queries that are in the gallery, and names that the gallery spells differently."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import oodml
from oodml.cli import app
from oodml.errors import OodmlError
from oodml.vectors import VectorSet

LABELS = np.repeat(np.arange(6), 10)
NAMES = np.array([f"c{label}" for label in LABELS])
IDS = np.array([f"img{i:02d}.jpg" for i in range(60)])
QUERIES = np.flatnonzero(np.arange(60) % 5 == 0)


def sample() -> np.ndarray:
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((6, 8))[LABELS] + generator.standard_normal((60, 8))
    return rows.astype(np.float32)


def evaluate(folder: Path, queries: VectorSet, gallery: VectorSet) -> tuple[dict, str]:
    queries.save(folder / "q.npz")
    gallery.save(folder / "g.npz")
    words = ["evaluate", str(folder / "q.npz"), "--gallery", str(folder / "g.npz"), "--json"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    return json.loads(result.stdout), result.stderr


def among_themselves() -> dict[str, float]:
    values = oodml.retrieval_metrics(sample(), NAMES, per_query=True)
    return {name: float(column[QUERIES].mean()) for name, column in values.items()}


@pytest.mark.parametrize("change", ["equal", "rounded", "shuffled"])
def test_a_query_does_not_match_itself(tmp_path: Path, change: str) -> None:
    everything = VectorSet(sample(), NAMES, IDS)
    gallery = everything
    if change == "rounded":
        gallery = VectorSet(sample() * np.float32(1 + 1e-6), NAMES, IDS)
    if change == "shuffled":
        gallery = everything.select(np.random.default_rng(1).permutation(60))
    output, _ = evaluate(tmp_path, everything.select(QUERIES), gallery)
    expected = among_themselves()
    for name in ("recall@1", "map", "map@r", "mrr"):
        assert output["metrics"][name] == pytest.approx(expected[name], abs=1e-6), name
    assert output["sizes"]["self_matches"] == len(QUERIES)
    assert any(str(len(QUERIES)) in note for note in output["notes"])
    assert output["chance"]["recall@1"] == pytest.approx(9 / 59)


def test_ids_in_python_and_repeated_rows() -> None:
    twice = np.concatenate([np.arange(60), QUERIES])
    ours = oodml.retrieval_metrics(
        sample()[QUERIES],
        NAMES[QUERIES],
        gallery=sample()[twice],
        gallery_labels=NAMES[twice],
        ids=IDS[QUERIES],
        gallery_ids=IDS[twice],
    )
    assert ours["recall@1"] <= 1
    once = oodml.retrieval_metrics(
        sample()[QUERIES],
        NAMES[QUERIES],
        gallery=sample(),
        gallery_labels=NAMES,
        ids=IDS[QUERIES],
        gallery_ids=IDS,
    )
    assert once["recall@1"] == pytest.approx(among_themselves()["recall@1"])
    with pytest.raises(OodmlError, match="ids"):
        oodml.retrieval_metrics(sample(), NAMES, gallery=sample(), gallery_labels=NAMES, ids=IDS)


def test_only_the_query_itself_can_leave_it_without_a_positive() -> None:
    rows = sample()[:4]
    labels = np.array(["a", "b", "c", "d"])
    ids = np.array(["1", "2", "3", "4"])
    values = oodml.retrieval_metrics(
        rows[:2],
        np.array(["a", "b"]),
        gallery=np.concatenate([rows, rows[:1] + 1]),
        gallery_labels=np.array([*labels, "a"]),
        ids=ids[:2],
        gallery_ids=np.array([*ids, "5"]),
    )
    assert (values["queries"], values["singletons"]) == (1, 1)


def test_copies_without_ids_are_said(tmp_path: Path) -> None:
    output, stderr = evaluate(
        tmp_path, VectorSet(sample()[QUERIES], NAMES[QUERIES]), VectorSet(sample(), NAMES)
    )
    assert output["metrics"]["recall@1"] == 1
    assert "12 of 12" in stderr
    with pytest.warns(UserWarning, match="12 of 12"):
        oodml.retrieval_metrics(
            sample()[QUERIES], NAMES[QUERIES], gallery=sample(), gallery_labels=NAMES
        )


def test_one_id_for_different_images_is_said(tmp_path: Path) -> None:
    queries = VectorSet(sample()[QUERIES] + np.float32(1), NAMES[QUERIES], IDS[QUERIES])
    output, stderr = evaluate(tmp_path, queries, VectorSet(sample(), NAMES, IDS))
    assert output["sizes"]["self_matches"] == 0
    assert "12 of 12" in stderr


def test_row_numbers_are_no_ids(tmp_path: Path) -> None:
    np.savez(tmp_path / "g.npz", vectors=sample(), classes=NAMES)
    np.savez(tmp_path / "q.npz", vectors=sample()[::-1] * 1.5, classes=NAMES[::-1])
    words = ["evaluate", str(tmp_path / "q.npz"), "--gallery", str(tmp_path / "g.npz"), "--json"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert json.loads(result.stdout)["sizes"]["self_matches"] == 0


def test_an_image_with_two_labels_is_refused() -> None:
    other = NAMES.copy()
    other[0] = "c5"
    with pytest.raises(OodmlError, match="img00.jpg"):
        oodml.retrieval_metrics(
            sample(), NAMES, gallery=sample(), gallery_labels=other, ids=IDS, gallery_ids=IDS
        )


@pytest.mark.parametrize(
    ("name", "other"),
    [
        (unicodedata.normalize("NFD", "Café"), unicodedata.normalize("NFC", "Café")),
        ("1", "1.0"),
        ("007", "7"),
        ("Cat", "cat"),
        ("cat ", "cat"),
    ],
)
def test_names_that_look_the_same_are_pointed_out(tmp_path: Path, name: str, other: str) -> None:
    queries, gallery = NAMES.astype("U9"), NAMES.astype("U9")
    queries[LABELS == 2], gallery[LABELS == 2] = name, other
    output, stderr = evaluate(
        tmp_path, VectorSet(sample()[QUERIES], queries[QUERIES]), VectorSet(sample() + 1, gallery)
    )
    assert "spelled differently" in stderr
    assert output["metrics"]["singletons"] == 2
    with (
        pytest.raises(OodmlError),
        pytest.warns(UserWarning, match="spelled differently"),
    ):
        oodml.retrieval_metrics(
            sample()[:2], np.array([name, name]), gallery=sample()[2:4],
            gallery_labels=np.array([other, other]),
        )  # fmt: skip


def test_outputs_never_overwrite_inputs(tmp_path: Path) -> None:
    VectorSet(sample(), NAMES, IDS).save(tmp_path / "v.npz")
    VectorSet(sample(), NAMES, IDS).save(tmp_path / "w.npy")
    (tmp_path / "link.faiss").symlink_to(tmp_path / "v.npz")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    npz, npy = tmp_path / "v.npz", tmp_path / "w.npy"
    for words in (
        ["index", npz, "--out", npz],
        ["index", npz, "--out", tmp_path / "." / "v.npz"],
        ["index", npz, "--out", tmp_path / "link.faiss"],
        ["index", npz, "--out", npy],
        ["evaluate", npz, "--per-class", npz],
        ["evaluate", npy, "--per-class", tmp_path / "w.csv"],
        ["evaluate", npz, "--gallery", npy, "--per-class", tmp_path / "w.csv"],
    ):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code, words
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before, words


def test_the_answer_comes_first(tmp_path: Path) -> None:
    pd.DataFrame({"embedding": list(sample()), "label": NAMES}).to_parquet(tmp_path / "v.parquet")
    result = CliRunner().invoke(app, ["evaluate", str(tmp_path / "v.parquet")])
    first, second = result.stdout.splitlines()[:2]
    recall = oodml.retrieval_metrics(sample(), NAMES)["recall@1"]
    assert f"{recall:.1%}" in first
    assert "15.3%" in first
    for number in ("60", "8", "6"):
        assert number in second.split()
