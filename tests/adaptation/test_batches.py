import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oodml.adaptation.support import SupportBatches, support_of
from oodml.errors import OodmlError


def generators(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + number) for number in range(count)]


@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=12).filter(
        lambda counts: sum(count >= 2 for count in counts) >= 2
    ),
    st.integers(2, 3),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_a_batch_contains_distinct_images_of_each_class(
    counts: list[int], pairs: int, views: int, seed: int
) -> None:
    rows = iter(range(100))
    members = {str(name): [next(rows) for _ in range(n)] for name, n in enumerate(counts)}
    class_of = {row: int(name) for name, own in members.items() for row in own}
    batches = SupportBatches([support_of(members)], generators(1, seed), views, 2 * pairs, 2)
    labels = batches.labels()
    for batch in batches.draw(40):
        images = (batch.rows[0] // views).tolist()
        assert len(set(images)) == len(images)
        assert [class_of[image] for image in images] == batch.classes[0].tolist()
        same = batch.classes[0][:, None] == batch.classes[0]
        assert torch.equal(same, labels[:, None] == labels)
        assert (labels.bincount() >= 2).all()
        assert len(images) <= 2 * pairs


def test_batches_of_few_classes_contain_more_images_per_class() -> None:
    members = {"a": [0, 1, 2, 3, 4], "b": [5, 6, 7, 8, 9], "c": [10, 11, 12, 13, 14]}
    batches = SupportBatches([support_of(members)], generators(1), 1, 12, 2)
    assert (batches.classes, batches.slots) == (3, 4)


def test_every_image_and_view_is_drawn_about_equally_often() -> None:
    members = {str(name): [2 * name, 2 * name + 1] for name in range(5)}
    batches = SupportBatches([support_of(members)], generators(1), 3, 4, 2)
    rows = torch.cat([batch.rows[0] for batch in batches.draw(3000)])
    counts = rows.bincount(minlength=30)
    assert counts.min() > 320  # 400 expected, standard deviation 19
    assert counts.max() < 480


def test_classes_with_too_few_images_are_left_out() -> None:
    members = {"a": [0], "b": [1, 2], "c": [3, 4]}
    batches = SupportBatches([support_of(members)], generators(1), 1, 4, 2)
    drawn = {int(name) for batch in batches.draw(50) for name in batch.classes[0]}
    assert drawn == {1, 2}


def test_one_image_per_class_is_refused() -> None:
    support = support_of({"a": [0], "b": [1], "c": [2, 3]})
    with pytest.raises(OodmlError, match="prototypes"):
        SupportBatches([support], generators(1), 1, 4, 2)
