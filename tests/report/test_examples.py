from pathlib import Path

from oodml.report.examples import find_examples
from oodml.report.folder import read_folder
from tests.report.conftest import Made
from tests.report.study_folder import made_up_study


def test_examples_show_the_same_queries_for_every_method(made: Made) -> None:
    folder = read_folder(made.folder, made.images)
    examples = find_examples(folder, "8", n_queries=6, k=4)
    assert examples is not None
    assert set(examples.neighbors) == {"margin", "multisimilarity", "proxy_anchor"}
    assert len(examples.queries) == len(set(examples.query_classes)) == 6
    test_classes = set(folder.progression[2].test) if folder.progression else set()
    assert set(examples.query_classes) <= test_classes
    for method, rows in examples.neighbors.items():
        for query, row, classes in zip(
            examples.queries, rows, examples.classes[method], strict=True
        ):
            assert query not in row
            assert [name.split("/")[0] for name in row] == list(classes)


def test_queries_run_from_the_worst_to_the_best_served(made: Made) -> None:
    examples = find_examples(read_folder(made.folder, made.images), "0", n_queries=6, k=4)
    assert examples is not None
    shares = [
        sum(name == own for name in classes)
        for own, classes in zip(examples.query_classes, examples.classes["margin"], strict=True)
    ]
    assert shares[0] <= min(shares[-2:])


def test_no_examples_without_vectors(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, keep_vectors=False, seeds=1)
    assert find_examples(read_folder(tmp_path, images), "0") is None
