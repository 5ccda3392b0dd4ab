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


class Features:
    """Features by image id; records the number of images and the view of each call."""

    def __init__(self) -> None:
        features, classes, _ = toy()
        ids = np.array([f"{row:03}.png" for row in range(len(classes))])
        pixels = np.zeros((len(ids), 2, 2), np.uint8)
        self.images = ImageSet("toy", ids, classes, pixels=pixels)
        self.features = dict(zip(ids.tolist(), features.numpy(), strict=True))
        self.calls: list[tuple[int, int | None]] = []

    def __call__(self, images: ImageSet, view: int | None) -> VectorSet:
        self.calls.append((len(images), view))
        vectors = np.stack([self.features[name] for name in images.ids.tolist()])
        return VectorSet(vectors + 0.1 * (0 if view is None else view + 1), images.classes,
                         images.ids)  # fmt: skip

    def episodes(self, count: int, shots: int) -> tuple[Episode, ...]:
        return tuple(
            Episode({name: tuple(self.images.ids[rows].tolist()) for name, rows in one.items()})
            for one in episodes(count, shots)
        )


def test_every_image_is_embedded_once_per_view() -> None:
    features = Features()
    head = LinearHead(FEATURES, DIM)
    before = head.linear.weight.clone()
    rows = list(
        adapt_split(features.images, features, head, features.episodes(3, 2), FAST, 2, seed=5)
    )
    assert [(row["stage"], row["episode"]) for row in rows] == [
        (stage, episode) for stage in ("before", "after") for episode in range(3)
    ]
    assert {row["shots"] for row in rows} == {2}
    assert {row["metric"] for row in rows} == {"recall@1"}
    assert features.calls == [(96, None), (48, 0), (48, 1)]  # 3 episodes × 8 classes × 2 images
    assert torch.equal(head.linear.weight, before)


def test_class_wise_episodes_may_list_only_classes() -> None:
    features = Features()
    named = Episode({"c0": (), "c4": ()}, class_wise=True)
    filled = Episode(
        {
            name: tuple(features.images.ids[features.images.classes == name].tolist())
            for name in ("c0", "c4")
        },
        class_wise=True,
    )
    head = LinearHead(FEATURES, DIM)
    a, b = (
        list(adapt_split(features.images, features, head, (one,), FAST, 2, seed=5))
        for one in (named, filled)
    )
    assert a == b


def test_the_frozen_baseline_starts_from_the_identity() -> None:
    features = Features()
    rows = list(
        adapt_split(
            features.images, features, IdentityHead(), features.episodes(2, 3), FAST, 3, seed=5
        )
    )
    assert len(rows) == 4


def test_support_outside_the_test_set_is_refused() -> None:
    features = Features()
    wrong = Episode({"c0": ("000.png", "nowhere.png")})
    head = LinearHead(FEATURES, DIM)
    with pytest.raises(OodmlError, match=r"nowhere\.png"):
        list(adapt_split(features.images, features, head, (wrong,), FAST, 2, seed=5))
