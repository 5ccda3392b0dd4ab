from pathlib import Path

import numpy as np

from oodml.report.folder import read_study
from oodml.report.gallery import gallery, neighbours
from oodml.vectors import VectorSet
from tests.report.conftest import Made
from tests.report.study_folder import made_up_study


def _space(n: int = 40) -> VectorSet:
    generator = np.random.default_rng(0)
    classes = np.array([f"c{k % 5}" for k in range(n)])
    vectors = generator.normal(size=(n, 6)).astype(np.float32)
    return VectorSet(vectors, classes, np.array([f"i{k}" for k in range(n)]))


def test_neighbours_are_the_nearest_by_cosine_without_the_query() -> None:
    space = _space()
    found = neighbours(space, np.array([3, 7]), 5)
    for query, row in zip((3, 7), found, strict=True):
        cosine = [
            float(
                v @ space.vectors[query] / np.linalg.norm(v) / np.linalg.norm(space.vectors[query])
            )
            for v in space.vectors
        ]
        others = sorted((k for k in range(len(space)) if k != query), key=lambda k: -cosine[k])
        assert row.tolist() == others[:5]


def test_no_more_neighbours_than_there_are() -> None:
    assert neighbours(_space(4), np.array([0]), 9).shape == (1, 3)


def test_gallery_shows_the_same_queries_for_every_method(made: Made) -> None:
    folder = read_study(made.folder, made.images)
    found = gallery(folder, "8", n_queries=6, k=4)
    assert found is not None
    assert set(found.neighbours) == {"margin", "multisimilarity", "proxy_anchor"}
    assert len(found.queries) == len(set(found.query_classes)) == 6
    test_classes = set(folder.progression[2].test) if folder.progression else set()
    assert set(found.query_classes) <= test_classes
    for method, rows in found.neighbours.items():
        for query, row, classes in zip(found.queries, rows, found.classes[method], strict=True):
            assert query not in row
            assert [name.split("/")[0] for name in row] == list(classes)


def test_queries_run_from_the_worst_to_the_best_served(made: Made) -> None:
    found = gallery(read_study(made.folder, made.images), "0", n_queries=6, k=4)
    assert found is not None
    shares = [
        sum(name == own for name in classes)
        for own, classes in zip(found.query_classes, found.classes["margin"], strict=True)
    ]
    assert shares[0] <= min(shares[-2:])


def test_no_gallery_without_vectors(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, keep_vectors=False, seeds=1)
    assert gallery(read_study(tmp_path, images), "0") is None
