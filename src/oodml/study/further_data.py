"""Further datasets that a study tests its models on (`test_data`), and the shift to them."""

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from oodml.arrays import Names
from oodml.datasets import open_images
from oodml.errors import error_at
from oodml.files import content_hash
from oodml.images.fingerprint import Log, file_records
from oodml.images.fingerprint import fingerprint as image_fingerprint
from oodml.images.image_set import ImageSet
from oodml.results.plan import FurtherTest
from oodml.shift.build import SplitSettings
from oodml.shift.measures import class_mean_shift
from oodml.shift.splits import Progression, Split, recorded_features
from oodml.study.spec.consistency import check_class_sizes
from oodml.study.spec.study_file import Study
from oodml.vectors import VectorSet

Features = Callable[[ImageSet], VectorSet | None]


def open_further_data(study: Study, images: ImageSet) -> dict[str, ImageSet]:
    opened: dict[str, ImageSet] = {}
    for given, source in study.test_data:
        further = open_images(source.name, **source.options)
        name = given or further.name
        if name in (images.name, *opened):
            remedy = f"Name them in a table: [test_data] with one line NAME = {source.name!r} each"
            raise error_at("test_data", f"two datasets are called {name!r}. {remedy}", name)
        check_class_sizes((), further)
        _refuse_shared_images(images, further, name)
        opened[name] = further
    return opened


def _refuse_shared_images(images: ImageSet, further: ImageSet, name: str) -> None:
    shared = np.isin(_contents(further), _contents(images))
    if shared.any():
        first = str(further.ids[shared][0])
        count = f"{int(shared.sum())} of {len(further)} images of {name}"
        problem = f"{count} are also in {images.name}, which the models are trained on"
        raise error_at("test_data", f"{problem}, such as {first!r}. Remove them from one.", first)


def _contents(images: ImageSet) -> Names:
    if images.pixels is None:
        return file_records(images).hashes
    return np.array([content_hash(str(one.shape), one.tobytes()) for one in images.pixels])


def plan_tests(
    further: Mapping[str, ImageSet],
    images: ImageSet,
    progression: Progression,
    features: Features | None = None,
) -> dict[str, tuple[FurtherTest, ...]]:
    """The further tests of every split, by its step as text."""
    own = features(images) if features and further else None
    new = {name: features(one) for name, one in further.items()} if features else {}
    return {
        str(split.step): tuple(
            FurtherTest(
                data=name,
                fingerprint=image_fingerprint(one),
                shift=_shift(own, split, new.get(name), progression.shift_measure),
            )
            for name, one in further.items()
        )
        for split in progression
    }


def _shift(
    own: VectorSet | None, split: Split, new: VectorSet | None, measure: str
) -> float | None:
    """The shift from a split's training classes; None if it is unknown or undefined."""
    if own is None or new is None:
        return None
    value = class_mean_shift(own.subset(split.train).class_means(), new.class_means(), measure)
    return value if np.isfinite(value) else None


def recorded_split_settings(progression: Progression) -> SplitSettings | None:
    """The network and input that splits of a file were measured with, if the file records them."""
    recorded = recorded_features(progression)
    weights = recorded.get("weights")
    if not progression.backbone or weights not in ("own", "none"):
        return None
    size = recorded.get("image_size")
    return SplitSettings.model_validate(
        {
            "backbone": progression.backbone,
            "weights": None if weights == "own" else weights,
            "image_size": size if isinstance(size, int) else None,
            "augmentation": recorded.get("augmentation", "base"),
            "pooling": recorded.get("pooling", "avg"),
        }
    )


def describe_tests(tests: Mapping[str, tuple[FurtherTest, ...]], log: Log) -> None:
    shifts: dict[str, list[float]] = {}
    for test in itertools.chain.from_iterable(tests.values()):
        shifts.setdefault(test.data, []).extend([] if test.shift is None else [test.shift])
    for name, known in shifts.items():
        text = f"{min(known):.4g} to {max(known):.4g}" if known else "unknown"
        log(f"test data {name}: shift from the training classes {text}")
