"""Validation classes and few-shot episodes, drawn by name.

What is drawn depends on the seed and the names alone, never on the order of a file or a list.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

import numpy as np

from oodml.errors import OodmlError
from oodml.files import content_hash
from oodml.shift.splits import Episode, Progression, Split

SHOTS = (2, 5, 10)


def sample_validation(train: Sequence[str], share: float = 0.25, seed: int = 0) -> tuple[str, ...]:
    """About `share` of the train classes, at least one, in the order of `train`.

    Empty if `share` is 0. At least one class is left to train on.
    """
    if not 0 <= share < 1:
        raise OodmlError(f"validation share {share}; it must be in [0, 1)")
    if share == 0 or len(train) < 2:
        return ()
    count = min(max(1, int(share * len(train) + 0.5)), len(train) - 1)
    drawn = set(_draw(train, count, "validation", seed))
    return tuple(name for name in train if name in drawn)


def sample_episodes(
    ids: Sequence[str],
    classes: Sequence[str],
    test_classes: Sequence[str],
    shots: Sequence[int] = SHOTS,
    n_episodes: int = 10,
    seed: int = 0,
    class_wise: bool | None = None,
) -> dict[int, tuple[Episode, ...]]:
    """Support samples for few-shot adaptation: for each number of shots, `n_episodes` episodes.

    ids, classes: [n] every image and its class. Of each class in `test_classes`, `shots` images
    are support and the rest queries; a class without an image to spare gives no support.
    class_wise: all images of some classes are support instead, as many classes as make about
    `shots` images a test class, two at least and half of the test classes at most. None: where
    more than half of the test classes have no image to spare (as in Stanford Online Products).
    """
    images = images_of(ids, classes, test_classes)
    if n_episodes < 0:
        raise OodmlError(f"n_episodes = {n_episodes}; it must be at least 0")
    episodes = {}
    for count in shots:
        if count < 1:
            raise OodmlError(f"shots = {count}; it must be at least 1")
        spare = [name for name in test_classes if len(images[name]) > count]
        by_class = 2 * len(spare) < len(test_classes) if class_wise is None else class_wise
        if by_class:
            names = _support_classes(images, count)
            drawn = [
                _class_episode(images, names, count, seed, number) for number in range(n_episodes)
            ]
        else:
            drawn = [_episode(images, spare, count, seed, number) for number in range(n_episodes)]
        episodes[count] = tuple(drawn)
    return episodes


def fill_support(
    progression: Progression, ids: Sequence[str], classes: Sequence[str]
) -> Progression:
    """Name the support of a published file by the ids of the data.

    ids, classes: [n] every image and its class. The published files name images by file name
    only, which is unique within a class, and for class-wise episodes no image at all: those get
    all images of their classes. `OodmlError` where a name fits no image or more than one.
    """

    def filled(split: Split) -> Split:
        images = images_of(ids, classes, split.test)
        episodes = {
            shots: tuple(replace(episode, support=_named(episode, images)) for episode in drawn)
            for shots, drawn in split.episodes.items()
        }
        return replace(split, episodes=episodes)

    return replace(progression, splits=tuple(map(filled, progression)))


def _named(episode: Episode, images: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    for name in episode.support:
        if name not in images:
            raise OodmlError(f"support class {name!r} is not a test class")
    if episode.class_wise:
        return {name: images[name] for name in episode.support}
    return {name: _matched(name, files, images[name]) for name, files in episode.support.items()}


def _matched(name: str, files: Sequence[str], images: tuple[str, ...]) -> tuple[str, ...]:
    if set(files) <= set(images):
        return tuple(files)
    by_file: defaultdict[str, list[str]] = defaultdict(list)
    for image in images:
        by_file[PurePath(image).name].append(image)
    for file in files:
        if len(by_file[PurePath(file).name]) != 1:
            fits = len(by_file[PurePath(file).name])
            raise OodmlError(f"support sample {file!r} of class {name!r} fits {fits} images, not 1")
    return tuple(by_file[PurePath(file).name][0] for file in files)


def images_of(
    ids: Sequence[str], classes: Sequence[str], wanted: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """The images of each wanted class, sorted, in the order of `wanted`."""
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for image, name in zip(ids, classes, strict=True):
        by_class[str(name)].append(str(image))
    images = {name: tuple(sorted(by_class.get(name, ()))) for name in wanted}
    for name, found in images.items():
        if not found:
            raise OodmlError(f"class {name!r} has no image in the data")
    return images


def _episode(
    images: Mapping[str, tuple[str, ...]], names: Sequence[str], shots: int, seed: int, number: int
) -> Episode:
    if not names:
        raise OodmlError(f"no test class has more than {shots} images, {shots} support and a query")
    return Episode(
        {name: _draw(images[name], shots, "episode", seed, shots, number, name) for name in names}
    )


def _class_episode(
    images: Mapping[str, tuple[str, ...]], count: int, shots: int, seed: int, number: int
) -> Episode:
    drawn = set(_draw(list(images), count, "class-wise", seed, shots, number))
    return Episode({name: images[name] for name in images if name in drawn}, class_wise=True)


def _support_classes(images: Mapping[str, tuple[str, ...]], shots: int) -> int:
    """How many classes are support in a class-wise episode."""
    if len(images) < 4:
        raise OodmlError(
            f"{len(images)} test classes with at most {shots} images each are too few for "
            "class-wise episodes; at least 4 are needed, or fewer shots"
        )
    total = sum(map(len, images.values()))
    return min(max(2, round(shots * len(images) ** 2 / total)), len(images) // 2)


def _draw(names: Iterable[str], count: int, *key: object) -> tuple[str, ...]:
    """`count` different names, at random from the key and the sorted names alone."""
    generator = np.random.default_rng(int(content_hash(*map(str, key))[:32], 16))
    pool = sorted(names)
    return tuple(pool[i] for i in generator.choice(len(pool), size=count, replace=False))
