"""Protocols with cameras, junk, distractors, and grades, against loops and pytrec_eval."""

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oodml.errors import OodmlError
from oodml.evaluate.judged import evaluate_judged, evaluate_run
from oodml.evaluate.registry import find_metric
from oodml.evaluate.relevance import PROTOCOLS, Judge, judged_ranks
from oodml.evaluate.trec import Qrels, Ranking, read_qrels, read_run
from oodml.vectors import VectorSet


def naive_query(grades: list[float], ks: tuple[int, ...]) -> dict[str, float]:
    """The metrics of a ranking, given the grades of its images in order, without junk."""
    ranks = [rank for rank, grade in enumerate(grades, 1) if grade > 0]
    total = len(ranks)
    precisions = {rank: i / rank for i, rank in enumerate(ranks, 1)}
    values = {
        "map": sum(precisions.values()) / total,
        "mrr": 1 / ranks[0],
        "minp": total / ranks[-1],
        "ndcg": dcg(grades, len(grades)) / dcg(sorted(grades, reverse=True), len(grades)),
        "map_trapezoid": trapezoid(grades),
    }
    for k in ks:
        values[f"recall@{k}"] = float(ranks[0] <= k)
        values[f"precision@{k}"] = sum(rank <= k for rank in ranks) / k
        values[f"map@{k}"] = sum(p for rank, p in precisions.items() if rank <= k) / min(total, k)
        values[f"ndcg@{k}"] = dcg(grades, k) / dcg(sorted(grades, reverse=True), k)
    return values


def dcg(grades: list[float], k: int) -> float:
    return sum(grade / np.log2(1 + rank) for rank, grade in enumerate(grades[:k], 1))


def trapezoid(grades: list[float]) -> float:
    """The loop of Market-1501: precision before and at each match, averaged."""
    area, hits, recall, precision = 0.0, 0, 0.0, 1.0
    total = sum(grade > 0 for grade in grades)
    for rank, grade in enumerate(grades, 1):
        hits += grade > 0
        area += (hits / total - recall) * (precision + hits / rank) / 2
        recall, precision = hits / total, hits / rank
    return area


def market(seed: int, n: int = 90) -> tuple[VectorSet, VectorSet]:
    """Queries and gallery with cameras, junk (-1), distractors (0), and identities seen once."""
    random = np.random.default_rng(seed)
    classes = random.integers(-1, 12, n)
    vectors = random.normal(size=(14, 6))[classes + 1] + random.normal(size=(n, 6))
    ids = np.array([f"{seed}_{i}.jpg" for i in range(n)])
    everything = VectorSet(
        vectors.astype(np.float32),
        classes.astype(str),
        ids,
        attributes={"camera": random.integers(1, 4, n).astype(str)},
    )
    is_query = (random.random(n) < 0.3) & (classes > 0)
    return everything.select(is_query), everything.select(~is_query)


def naive_market(queries: VectorSet, gallery: VectorSet, ks: tuple[int, ...]) -> dict[str, float]:
    rows = []
    for i in range(len(queries)):
        ranking: list[tuple[float, float]] = []
        for j in range(len(gallery)):
            same = queries.classes[i] == gallery.classes[j]
            camera = queries.attributes["camera"][i] == gallery.attributes["camera"][j]
            if gallery.classes[j] == "-1" or (same and camera):
                continue
            a, b = queries.vectors[i].astype(float), gallery.vectors[j].astype(float)
            ranking.append((float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)), float(same)))
        grades = [grade for _, grade in sorted(ranking, key=lambda pair: -pair[0])]
        if any(grades):
            rows.append(naive_query(grades, ks))
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return means | {"queries": len(rows), "singletons": len(queries) - len(rows)}


@pytest.mark.parametrize("seed", range(3))
def test_market1501_is_a_loop(seed: int) -> None:
    queries, gallery = market(seed)
    expected = naive_market(queries, gallery, (1, 5, 10, 20))
    measured = evaluate_judged(queries, gallery, protocol="market1501")
    assert expected["singletons"] > 0 or seed
    assert measured.metrics == pytest.approx({name: expected[name] for name in measured.metrics})
    assert list(measured.metrics)[:5] == ["map", "recall@1", "recall@5", "recall@10", "recall@20"]


@pytest.mark.parametrize("name", ["veri", "msmt17"])
def test_same_camera_is_not_ranked(name: str) -> None:
    queries, gallery = market(5)
    ranked = gallery.select(gallery.classes != "-1")
    expected = naive_market(queries, ranked, (1, 5, 10, 20))
    measured = evaluate_judged(queries, ranked, protocol=name)
    assert measured.metrics == pytest.approx({one: expected[one] for one in measured.metrics})


def test_veri_ranks_tracks_by_their_nearest_image() -> None:
    """A track is a class in a camera, or one image without a track; a loop over all of them."""
    queries, gallery = market(6)
    camera = gallery.attributes["camera"]
    track = np.char.add(np.char.add(gallery.classes, " in "), camera)
    track[::9] = ""
    gallery = replace(gallery, attributes={"camera": camera, "track": track})
    rows = []
    for query, name, own in zip(
        queries.vectors.astype(float), queries.classes, queries.attributes["camera"], strict=True
    ):
        nearest: dict[str, tuple[float, float]] = {}
        for i, vector in enumerate(gallery.vectors.astype(float)):
            same = gallery.classes[i] == name
            if not (same and camera[i] == own):
                score = float(query @ vector / np.linalg.norm(vector))
                key = track[i] or str(i)
                nearest[key] = max(nearest.get(key, (-np.inf, 0.0)), (score, float(same)))
        grades = [grade for _, grade in sorted(nearest.values(), reverse=True)]
        if any(grades):
            rows.append(naive_query(grades, (1, 5)))
    measured = evaluate_judged(queries, gallery, protocol="veri").metrics
    assert measured.pop("queries") == len(rows)
    assert measured.pop("singletons") == len(queries) - len(rows)
    assert measured == pytest.approx({n: np.mean([row[n] for row in rows]) for n in measured})


@pytest.mark.parametrize("name", ["sop", "inshop", "inaturalist", "wildlife"])
def test_protocols_without_exclusions(name: str) -> None:
    queries, gallery = market(7)
    nothing = np.array([f"camera of query {i}" for i in range(len(queries))])
    unseen = np.array([f"camera {i}" for i in range(len(gallery))])
    kept = VectorSet(
        gallery.vectors, gallery.classes, gallery.ids, attributes={"camera": unseen}
    ).select(gallery.classes != "-1")
    asked = VectorSet(queries.vectors, queries.classes, queries.ids, attributes={"camera": nothing})
    ks = (1, 4, 5, 10, 16, 20, 30, 32, 40, 50, 100, 1000)
    expected = naive_market(asked, kept, ks)
    measured = evaluate_judged(asked, kept, protocol=name)
    assert measured.metrics == pytest.approx({one: expected[one] for one in measured.metrics})


def test_landmarks_share_one_of_several_labels() -> None:
    random = np.random.default_rng(2)
    labels = ["a", "b", "a|b", "b|c", "c", "d"]
    vectors = random.normal(size=(60, 5)).astype(np.float32)
    classes = random.choice(labels, 60)
    queries = VectorSet(vectors[:20], classes[:20], np.arange(20))
    gallery = VectorSet(vectors[20:], classes[20:], np.arange(20, 60))
    rows, graded = [], []
    for query, name in zip(vectors[:20].astype(float), classes[:20], strict=True):
        cosines = vectors[20:] @ query / np.linalg.norm(vectors[20:], axis=1)
        shared = [len({*name.split("|")} & {*other.split("|")}) for other in classes[20:]]
        grades = [float(shared[j]) for j in np.argsort(-cosines)]
        if any(grades):
            rows.append(naive_query(grades, (100,)))
            graded.append(naive_query(grades, (5,)))
    measured = evaluate_judged(queries, gallery, protocol="gldv2")
    assert measured.metrics["map@100"] == pytest.approx(np.mean([row["map@100"] for row in rows]))
    result = evaluate_judged(queries, gallery, shared_label=True, ks=(5,)).metrics
    for name in graded[0]:
        assert result[name] == pytest.approx(np.mean([row[name] for row in graded]))


def attainable(scores: Any, grades: Any) -> list[list[float]]:
    """The grades in every order that the scores allow; junk is left out."""
    ranked = [(score, grade) for score, grade in zip(scores, grades, strict=True) if grade >= 0]
    levels = sorted({score for score, _ in ranked}, reverse=True)
    groups = [[grade for score, grade in ranked if score == level] for level in levels]
    orders = [list(permutations(group)) for group in groups]
    return [[grade for part in parts for grade in part] for parts in product(*orders)]


def matrix_judge(grades: Any) -> Judge:
    return lambda rows: np.array(grades[rows])


def test_ties_are_in_random_order_and_every_order_is_possible() -> None:
    random = np.random.default_rng(3)
    queries = torch.eye(3, dtype=torch.float64)
    gallery = torch.from_numpy(random.integers(1, 3, (6, 3)).astype(np.float64))
    grades = random.choice([-1.0, 0.0, 1.0, 3.0], (3, 6)).astype(np.float32)
    cosines = torch.nn.functional.normalize(gallery, dim=1).numpy().T.round(9)
    seen: list[list[float]] = [[], [], []]
    for seed in range(120):
        blocks = judged_ranks(
            queries,
            gallery,
            matrix_judge(grades),
            distance="cosine",
            generator=torch.Generator().manual_seed(seed),
        )
        for block in blocks:
            for i, row in enumerate(block.rows.tolist()):
                assert block.grades is not None
                assert block.sizes is not None
                ranking = [0.0] * int(block.sizes[i])
                for rank, grade in zip(block.ranks[i], block.grades[i], strict=True):
                    if grade > 0:
                        ranking[int(rank) - 1] = float(grade)
                seen[row].append(naive_query(ranking, (2,))["ndcg"])
                assert ranking in attainable(cosines[row], grades[row])
    for row in range(3):
        orders = attainable(cosines[row], grades[row])
        if any(grade > 0 for grade in grades[row]):
            values = [naive_query(order, (2,))["ndcg"] for order in orders]
            assert np.mean(seen[row]) == pytest.approx(np.mean(values), abs=0.04)
            assert {round(value, 9) for value in seen[row]} == {round(v, 9) for v in values}


def random_run(seed: int) -> tuple[Ranking, Qrels]:
    """Tied scores, junk, queries without a match, and matches that are not retrieved."""
    random = np.random.default_rng(seed)
    pairs = [(f"q{i}", f"d{j}") for i in range(12) for j in range(40)]
    chosen = random.random(len(pairs)) < 0.6
    scores = random.integers(0, 8, len(pairs)).astype(float)
    grades = random.choice([-1.0, 0.0, 0.0, 0.0, 1.0, 2.0], len(pairs)).astype(np.float32)
    judged = random.random(len(pairs)) < 0.7
    names = np.array(pairs)
    grades[(names[:, 0] == "q3") & (grades > 0)] = 0
    return (
        Ranking(names[chosen, 0], names[chosen, 1], scores[chosen]),
        Qrels(names[judged, 0], names[judged, 1], grades[judged]),
    )


@pytest.mark.parametrize("seed", range(4))
def test_runs_equal_trec_eval(seed: int) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    run, qrels = random_run(seed)
    grades: dict[str, dict[str, int]] = {}
    for query, image, grade in zip(qrels.queries, qrels.images, qrels.grades, strict=True):
        grades.setdefault(str(query), {})[str(image)] = int(grade)
    ranking: dict[str, dict[str, float]] = {}
    for query, image, score in zip(run.queries, run.images, run.scores, strict=True):
        if grades[str(query)].get(str(image), 0) >= 0:
            ranking.setdefault(str(query), {})[str(image)] = float(score)
    measures = {
        "map": "map",
        "mrr": "recip_rank",
        "r_precision": "Rprec",
        "precision@5": "P_5",
        "recall@1": "success_1",
        "recall@10": "success_10",
        "ndcg": "ndcg",
        "ndcg@5": "ndcg_cut_5",
    }
    wanted = {"map", "recip_rank", "Rprec", "P.5", "success.1,10", "ndcg", "ndcg_cut.5"}
    expected = pytrec_eval.RelevanceEvaluator(grades, wanted).evaluate(ranking)
    result = evaluate_run(run, qrels, ks=(1, 5, 10))
    table = result.per_class.set_index("query")
    assert result.metrics["singletons"] == 1
    for query in grades:
        for name, theirs in measures.items():
            if query != "q3":
                assert table.loc[query, name] == pytest.approx(expected[query][theirs]), name


def test_runs_equal_a_loop_with_junk() -> None:
    run, qrels = random_run(9)
    table = evaluate_run(run, qrels, ks=(1, 5)).per_class.set_index("query")
    for query in np.unique(qrels.queries):
        grades = {
            image: float(grade)
            for one, image, grade in zip(qrels.queries, qrels.images, qrels.grades, strict=True)
            if one == query
        }
        own = run.queries == query
        pairs = sorted(zip(run.scores[own], run.images[own], strict=True), reverse=True)
        ranked = [grades.get(image, 0.0) for _, image in pairs]
        ranked = [grade for grade in ranked if grade >= 0]
        total = sum(grade > 0 for grade in grades.values())
        if total == 0:
            assert np.isnan(table.loc[query, "map"])
            continue
        hits = np.cumsum([grade > 0 for grade in ranked])
        precisions = [hits[i] / (i + 1) for i, grade in enumerate(ranked) if grade > 0]
        assert table.loc[query, "map"] == pytest.approx(sum(precisions) / total)
        assert table.loc[query, "map@5"] == pytest.approx(
            sum(hits[i] / (i + 1) for i, grade in enumerate(ranked[:5]) if grade > 0)
            / min(total, 5)
        )


def test_written_files_give_the_same_metrics(tmp_path: Path) -> None:
    queries, gallery = market(11)
    files = {"run_file": tmp_path / "a.run", "qrels_file": tmp_path / "a.qrels"}
    direct = evaluate_judged(queries, gallery, protocol="market1501", **files)
    qrels = read_qrels(files["qrels_file"])
    again = evaluate_run(read_run(files["run_file"]), qrels)
    pairs = evaluate_judged(queries, gallery, qrels=qrels)
    for name in direct.metrics:
        if name != "singletons":  # a query without any judgment is not in the file
            assert again.metrics[name] == pytest.approx(direct.metrics[name])
            assert pairs.metrics[name] == pytest.approx(direct.metrics[name])


def test_grades_junk_and_distractors_from_columns(tmp_path: Path) -> None:
    vectors = np.array([[1, 0], [1, 0.1], [1, 0.2], [1, 0.3], [1, 0.4]], dtype=np.float32)
    path = tmp_path / "graded.parquet"
    VectorSet(
        vectors,
        np.array(["a"] * 5),
        np.arange(5).astype(str),
        partition=np.array(["query", *["gallery"] * 4]),
        attributes={
            "relevance": np.array(["", "-1", "0", "1", "2.5"]),
            "junk": np.array(["", "", "false", "0", ""]),
        },
    ).save(path)
    loaded = VectorSet.load(path)
    assert loaded.attributes["relevance"].tolist() == ["", "-1", "0", "1", "2.5"]
    result = evaluate_judged(loaded, ks=(1, 2)).metrics
    expected = naive_query([0.0, 1.0, 2.5], (1, 2))
    for name, value in expected.items():
        assert result[name] == pytest.approx(value)


def test_bad_columns_are_refused() -> None:
    queries, gallery = market(0)
    with pytest.raises(OodmlError) as error:
        evaluate_judged(queries, gallery, exclude=("time",))
    assert error.value.given == "time"
    assert error.value.allowed == ("camera",)
    graded = VectorSet(
        gallery.vectors,
        gallery.classes,
        gallery.ids,
        attributes={"relevance": np.full(len(gallery), "good")},
    )
    with pytest.raises(OodmlError) as error:
        evaluate_judged(queries, graded)
    assert error.value.given == "good"
    plain = VectorSet(queries.vectors, queries.classes)
    with pytest.raises(OodmlError) as error:
        evaluate_judged(plain, protocol="inshop")
    assert "is_query" in error.value.allowed


def test_bad_files_are_refused(tmp_path: Path) -> None:
    for text in ("", "q 0 d\n", "q 0 d one\n", "q 0 d 1\nq 0 d 0\n"):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(OodmlError) as error:
            read_qrels(tmp_path / "bad")
        assert error.value.location == str(tmp_path / "bad")


def test_metrics_of_protocols_are_registered() -> None:
    for protocol in PROTOCOLS.values():
        for name in protocol.metrics:
            assert find_metric(name).family == "retrieval"
