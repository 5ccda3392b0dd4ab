import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import oodml
from oodml.cli import app
from oodml.errors import OodmlError, unknown


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)


def vectors(seed: int = 0, n: int = 80, spread: float = 1.0) -> oodml.VectorSet:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % 10
    centers = np.random.default_rng(99).standard_normal((10, 8))
    rows = centers[labels] + spread * generator.standard_normal((n, 8))
    return oodml.VectorSet(
        rows.astype(np.float32),
        np.array([f"class {label}" for label in labels]),
        np.array([f"image {i}" for i in range(n)]),
        np.array([f"group {label // 5}" for label in labels]),
    )


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet", ".npy"])
def test_evaluate_every_format_as_json(tmp_path: Path, suffix: str) -> None:
    test = vectors()
    test.save(tmp_path / f"test{suffix}")
    output = json.loads(run("evaluate", tmp_path / f"test{suffix}", "--json", "--k", 1).stdout)
    expected = oodml.retrieval_metrics(test.vectors, test.classes, ks=(1,))
    expected |= oodml.clustering_metrics(test.vectors, test.classes)
    expected |= oodml.structure_metrics(test.vectors, test.classes)
    expected["rho@10"] = None  # of 8 dimensions
    assert output["metrics"] == pytest.approx(expected)
    assert output["chance"]["recall@1"] == pytest.approx(7 / 79)


def test_evaluate_prints_a_table_and_writes_the_classes(tmp_path: Path) -> None:
    test = vectors()
    test.save(tmp_path / "test.npz")
    result = run("evaluate", tmp_path / "test.npz", "--per-class", tmp_path / "classes.csv")
    assert "80 queries" in result.stdout
    assert "chance" in result.stdout
    table = pd.read_csv(tmp_path / "classes.csv")
    assert table["class"].tolist() == sorted(set(test.classes.tolist()))
    assert (table["images"] == 8).all()
    overall = oodml.retrieval_metrics(test.vectors, test.classes)
    assert table["map@r"].mean() == pytest.approx(overall["map@r"])


def test_evaluate_in_a_gallery_by_superclass(tmp_path: Path) -> None:
    queries, gallery = vectors(1), vectors(2)
    queries.save(tmp_path / "q.npz")
    gallery.save(tmp_path / "g.npz")
    words = ("--gallery", tmp_path / "g.npz", "--by", "superclass", "--json", "--retrieval-only")
    output = json.loads(run("evaluate", tmp_path / "q.npz", *words).stdout)
    expected = oodml.retrieval_metrics(
        queries.vectors,
        queries.superclasses,
        gallery=gallery.vectors,
        gallery_labels=gallery.superclasses,
    )
    assert output["metrics"] == pytest.approx(expected)
    assert output["chance"]["precision@1"] == pytest.approx(0.5)


def test_evaluate_by_the_rules_of_a_benchmark(tmp_path: Path) -> None:
    test = vectors()
    rows = np.arange(len(test))
    replace(
        test,
        ids=np.array([f"{row}.jpg" for row in rows]),
        partition=np.where(rows % 4 == 0, "query", "gallery"),
        attributes={"camera": (rows % 3).astype(str)},
    ).save(tmp_path / "people.npy")
    words = ("evaluate", tmp_path / "people.npy", "--exclude", "same:camera", "--json")
    output = json.loads(run(*words, "--write-trec", tmp_path / "a").stdout)
    again = ("evaluate", tmp_path / "a.run", "--qrels", tmp_path / "a.qrels", "--json")
    ranked = json.loads(run(*again).stdout)["metrics"]
    assert ranked == pytest.approx(output["metrics"])
    named = json.loads(run(*words[:2], "--protocol", "veri", "--json").stdout)
    assert list(named["metrics"])[:4] == ["map", "recall@1", "recall@5", "minp"]
    assert named["metrics"]["map"] == pytest.approx(output["metrics"]["map"])
    for bad in (("--protocol", "veri", "--k", 3), ("--exclude", "camera"), ("--far", 0.1)):
        with pytest.raises(OodmlError):
            run("evaluate", tmp_path / "people.npy", *bad)


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (("--far", 0.1), "--far"),
        (("--sizes", 100), "--sizes"),
        (("--memory", "1GB"), "--memory"),
        (("--open-set", "--by", "superclass"), "--by"),
        (("--n-queries", 4, "--label-column", "kind"), "--label-column"),
    ],
)
def test_evaluate_refuses_options_that_do_not_apply(
    tmp_path: Path, words: tuple[object, ...], flag: str
) -> None:
    vectors().save(tmp_path / "test.npz")
    with pytest.raises(OodmlError) as error:
        run("evaluate", tmp_path / "test.npz", *words)
    assert error.value.location == flag
    assert flag not in error.value.allowed


def test_evaluate_refuses_bad_options_and_missing_files(tmp_path: Path) -> None:
    vectors().save(tmp_path / "test.npz")
    with pytest.raises(OodmlError, match="genus"):
        run("evaluate", tmp_path / "test.npz", "--by", "genus")
    with pytest.raises(OodmlError, match="missing.npz"):
        run("evaluate", tmp_path / "missing.npz")


def test_compare_aligns_the_rows_by_id(tmp_path: Path) -> None:
    good, bad = vectors(1, 400, 0.7), vectors(1, 400, 1.4)
    good.save(tmp_path / "good.npz")
    order = np.random.default_rng(0).permutation(400)
    bad.select(order).save(tmp_path / "bad.npz")
    words = ("compare", tmp_path / "good.npz", tmp_path / "bad.npz", "--metric", "recall@1")
    (output,) = json.loads(run(*words, "--json").stdout)
    (expected,) = oodml.compare(good.vectors, bad.vectors, good.labels, metrics=["recall@1"])
    assert output["b"] == expected.b
    assert output["low"] == expected.low > 0
    assert "P(A is better)" in run(*words).stdout


def test_compare_refuses_other_images(tmp_path: Path) -> None:
    vectors(1).save(tmp_path / "a.npz")
    vectors(1, 70).save(tmp_path / "b.npz")
    with pytest.raises(OodmlError, match="image 70"):
        run("compare", tmp_path / "a.npz", tmp_path / "b.npz")


def test_index_loads_with_faiss_and_reports_its_recall(tmp_path: Path) -> None:
    import faiss

    test = vectors(3, 300)
    test.save(tmp_path / "v.npz")
    report = json.loads(
        run("index", tmp_path / "v.npz", "--out", tmp_path / "v.faiss", "--json").stdout
    )
    assert report["neighbor_recall"] == 1
    assert report["recall"] == report["exact_recall"]
    index = faiss.read_index(str(tmp_path / "v.faiss"))
    ids = pd.read_csv(tmp_path / "v.ids.csv")
    unit = test.vectors / np.linalg.norm(test.vectors, axis=1, keepdims=True)
    assert ids["id"][index.search(unit[7:8], 1)[1][0, 0]] == "image 7"
    assert "100.00%" in run("index", tmp_path / "v.npz", "--out", tmp_path / "w.x").stdout


def test_unlabeled_rows_are_counted(tmp_path: Path) -> None:
    test = vectors()
    classes = test.classes.copy()
    classes[3] = ""
    np.savez(tmp_path / "v[1].npz", vectors=test.vectors, classes=classes, ids=test.ids)
    for words in (
        ("evaluate", tmp_path / "v[1].npz"),
        ("compare", tmp_path / "v[1].npz", tmp_path / "v[1].npz"),
        ("index", tmp_path / "v[1].npz", "--out", tmp_path / "v.faiss"),
    ):
        with pytest.raises(OodmlError):
            run(*words)
        result = run(*words, "--skip-unlabeled")
        assert "without a label" in result.stderr
        assert words[0] == "index" or "v[1].npz" in result.stdout


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("threshold a.npz --out t.json --far 5", "--far"),
        ("evaluate a.npz --open-set --far 5", "--far"),
        ("compress a.npz --dims 99", "--dims"),
        ("compare a.npz b.npz --confidence 2", "--confidence"),
        ("index a.npz --out a.faiss --effort 3", "--effort"),
        ("evaluate known.npz --distractors unknown.npz --sizes 3,4", "--sizes"),
        ("evaluate known.npz --gallery known.npz --open-set", "--gallery"),
        ("evaluate known.npz --gallery unknown.npz --open-set", "--gallery"),
        ("threshold known.npz --gallery known.npz --out t.json", "--gallery"),
    ],
)
def test_errors_name_the_option_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, flag: str
) -> None:
    monkeypatch.chdir(tmp_path)
    _save_known_and_unknown(tmp_path)
    with pytest.raises(OodmlError) as error:
        run(*command.split())
    assert error.value.location == flag
    assert flag in str(error.value)


@pytest.mark.parametrize("command", ["evaluate a.npz", "compress a.npz", "compare a.npz a.npz"])
def test_cut_offs_start_at_one(command: str) -> None:
    assert run(*command.split(), "--k", 0).exit_code == 2
    assert run(*command.split(), "--k", 1.5).exit_code == 2


def test_sizes_below_the_gallery_are_left_out_with_a_note(tmp_path: Path) -> None:
    _save_known_and_unknown(tmp_path)
    words = ("evaluate", tmp_path / "known.npz", "--distractors", tmp_path / "unknown.npz")
    result = run(*words, "--sizes", "3,50", "--json")
    assert [row["size"] for row in json.loads(result.stdout)] == [50]
    assert "--sizes 3:" in result.stderr


def test_rescoring_counts_the_bytes_on_disk(tmp_path: Path) -> None:
    vectors().save(tmp_path / "a.npz")
    *others, rescored = json.loads(run("compress", tmp_path / "a.npz", "--json").stdout)
    assert [row["disk"] for row in (*others, rescored)] == [0, 0, 0, 0, 8]
    assert rescored["bytes"] == 1


def test_further_metrics_are_only_in_json(tmp_path: Path) -> None:
    vectors().save(tmp_path / "a.npz")
    words = ("evaluate", tmp_path / "a.npz")
    every, shown = json.loads(run(*words, "--json").stdout)["metrics"], run(*words).stdout
    names = [line.split()[1] for line in shown.splitlines() if line.startswith("│")]
    assert {"recall@8", "r_precision", "map@r", "map", "mrr", "nmi", "f1"} < set(names) < set(every)
    hidden = len(set(every) - {"queries", "singletons"}) - len(names)
    assert f"--json prints {hidden} " in shown


def test_an_error_with_a_suggestion_lists_few_allowed_values() -> None:
    names = [f"metric@{k}" for k in range(50)]
    error = unknown("metric", "metrc@7", names)
    assert "metric@7" in str(error)
    assert sum(f"{name}," in str(error) for name in names) <= 8
    assert len(error.allowed) == 50
    assert "metric@49" in str(unknown("metric", "xyz", names))


def _save_known_and_unknown(folder: Path) -> None:
    for seed, name in enumerate("ab"):
        vectors(seed).save(folder / f"{name}.npz")
    names = vectors().class_names
    vectors().subset(names[:5]).save(folder / "known.npz")
    vectors().subset(names[5:]).save(folder / "unknown.npz")


@pytest.mark.parametrize("options", [("--conformal",), ("--mode", "pairs")])
def test_the_rates_of_a_threshold_are_those_that_evaluate_prints(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    sample = vectors(n=160)
    sample.save(tmp_path / "a.npz")
    sample.subset(sample.class_names[:1]).save(tmp_path / "g.npz")
    path, gallery = tmp_path / "t.json", ("--gallery", tmp_path / "g.npz")
    gallery = () if "pairs" in options else gallery
    words = ("threshold", tmp_path / "a.npz", *gallery, *options, "--far", 0.2, "--out", path)
    result = run(*words)
    assert result.stderr.count("g.npz") == len(gallery) // 2
    chosen = json.loads(path.read_text())
    words = ("evaluate", tmp_path / "a.npz", *gallery, "--open-set", "--threshold", path)
    output = json.loads(run(*words, "--json").stdout)
    assert output["mode"] == chosen["mode"]
    assert output["unknown"] == chosen["unknown"]
    assert output["metrics"]["false_accepts"] == chosen["false_accepts"]
    assert 1 - output["metrics"]["false_rejects"] == pytest.approx(chosen["tar"])
    assert f"{chosen['false_accepts']:.2%}" in result.stdout
    assert ("pairs of two classes" in run(*words).stdout) == ("pairs" in options)
    if "pairs" in options:
        with pytest.raises(OodmlError) as error:
            run(*words, "--gallery", tmp_path / "g.npz")
        assert error.value.location == "--gallery"


def test_compress_recommends_nothing_on_few_queries(tmp_path: Path) -> None:
    vectors().save(tmp_path / "a.npz")
    result = run("compress", tmp_path / "a.npz")
    assert "40 queries of 5 classes" in result.stdout
    assert "--seed 1" in result.stderr
    rows = json.loads(run("compress", tmp_path / "a.npz", "--json").stdout)
    assert not any(row["recommended"] for row in rows)
    vectors(n=400).save(tmp_path / "b.npz")
    result = run("compress", tmp_path / "b.npz", "--fit", tmp_path / "a.npz", "--json")
    assert "10 of the 10" in result.stderr
    assert sum(row["recommended"] for row in json.loads(result.stdout)) <= 1
