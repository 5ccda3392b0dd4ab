import numpy as np
import pytest
import torch

from oodml.adaptation import AdaptSettings
from oodml.adaptation.split import adapt_split
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.model import IdentityHead, LinearHead
from oodml.shift.splits import Episode
from oodml.vectors import VectorSet

from .toy import DIM, FEATURES, episodes, toy

FAST = AdaptSettings(iterations=20, lr=5e-3, batch_size=12, views=2, metrics=("recall@1",))


class Trunk:
    """Features by image id; remembers how many images it was asked for in which view."""

    def __init__(self) -> None:
        features, classes, _ = toy()
        ids = np.array([f"{row:03}.png" for row in range(len(classes))])
        pixels = np.zeros((len(ids), 2, 2), np.uint8)
        self.images = ImageSet("toy", ids, classes, pixels=pixels)
        self.features = dict(zip(ids.tolist(), features.numpy(), strict=True))
        self.asked: list[tuple[int, int | None]] = []

    def __call__(self, images: ImageSet, view: int | None) -> VectorSet:
        self.asked.append((len(images), view))
        vectors = np.stack([self.features[name] for name in images.ids.tolist()])
        return VectorSet(vectors + 0.1 * (0 if view is None else view + 1), images.classes,
                         images.ids)  # fmt: skip

    def episodes(self, count: int, shots: int) -> tuple[Episode, ...]:
        return tuple(
            Episode({name: tuple(self.images.ids[rows].tolist()) for name, rows in one.items()})
            for one in episodes(count, shots)
        )


def test_rows_of_all_episodes_and_every_image_embedded_once_a_view() -> None:
    trunk = Trunk()
    head = LinearHead(FEATURES, DIM)
    before = head.linear.weight.clone()
    rows = list(adapt_split(trunk.images, trunk, head, trunk.episodes(3, 2), FAST, 2, seed=5))
    assert [(row["stage"], row["episode"]) for row in rows] == [
        (stage, episode) for stage in ("before", "after") for episode in range(3)
    ]
    assert {row["shots"] for row in rows} == {2}
    assert {row["metric"] for row in rows} == {"recall@1"}
    assert trunk.asked == [(96, None), (48, 0), (48, 1)]  # 3 episodes × 8 classes × 2 images
    assert torch.equal(head.linear.weight, before)


def test_class_wise_episodes_that_name_only_classes() -> None:
    trunk = Trunk()
    named = Episode({"c0": (), "c4": ()}, class_wise=True)
    filled = Episode(
        {
            name: tuple(trunk.images.ids[trunk.images.classes == name].tolist())
            for name in ("c0", "c4")
        },
        class_wise=True,
    )
    head = LinearHead(FEATURES, DIM)
    a, b = (
        list(adapt_split(trunk.images, trunk, head, (one,), FAST, 2, seed=5))
        for one in (named, filled)
    )
    assert a == b


def test_the_frozen_baseline_adapts_from_the_identity() -> None:
    trunk = Trunk()
    rows = list(
        adapt_split(trunk.images, trunk, IdentityHead(), trunk.episodes(2, 3), FAST, 3, seed=5)
    )
    assert len(rows) == 4


def test_support_that_is_not_in_the_test_set_is_refused() -> None:
    trunk = Trunk()
    wrong = Episode({"c0": ("000.png", "nowhere.png")})
    head = LinearHead(FEATURES, DIM)
    with pytest.raises(OodmlError, match=r"episode 0: support image 'nowhere.png' of class 'c0'"):
        list(adapt_split(trunk.images, trunk, head, (wrong,), FAST, 2, seed=5))
