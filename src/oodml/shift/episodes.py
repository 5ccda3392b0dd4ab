"""Validation classes and few-shot episodes, drawn from the seed and the names, in any order."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

import numpy as np

from oodml.errors import OodmlError, invalid
from oodml.files import content_hash
from oodml.shift.splits import Episode, Progression, Split

SHOTS = (2, 5, 10)


def sample_validation(train: Sequence[str], share: float = 0.25, seed: int = 0) -> tuple[str, ...]:
    """Choose validation classes: about `share` of the train classes, in the order of `train`.

    At least one class is chosen and at least one is left to train on; none if `share` is 0.
    """
    if not 0 <= share < 1:
        problem = f"validation share {share}; it must be in [0, 1)"
        raise OodmlError(problem, location="validation", given=share)
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
    """Draw support images for few-shot adaptation.

    Args:
        ids, classes: [n] the id and class of every image.
        test_classes: the classes to draw episodes of.
        shots: the numbers of support images per class. The other images are queries; a class
            with too few images has queries but no support.
        n_episodes: the number of episodes for each number of shots.
        class_wise: use all images of some classes as support and the other classes as queries,
            with about `shots` support images per test class (at least two classes and at most
            half of them; classes with one image are always queries). None does this if more than
            half of the test classes have too few images, as in Stanford Online Products.

    Raises:
        OodmlError: if a class has no image, or the classes are too small for the shots.
    """
    images = images_of(ids, classes, test_classes)
    if n_episodes < 0:
        raise invalid("n_episodes", n_episodes, "it must be at least 0")
    episodes = {}
    for count in shots:
        if count < 1:
            raise invalid("shots", count, "it must be at least 1")
        names = [name for name in test_classes if len(images[name]) > count]
        by_class = 2 * len(names) < len(test_classes) if class_wise is None else class_wise
        if by_class and class_wise is None:
            most = max(map(len, images.values()))
            if count > most:  # class-wise episodes would hide the mistake
                problem = f"shots = {count}, but the largest test class has {most} images"
                remedy = f"{_list(images)}. Set shots below {most}"
                raise OodmlError(f"{problem}: {remedy}", "shots", count)
        drawn = []
        for number in range(n_episodes):
            if by_class:
                pairs = [name for name in images if len(images[name]) > 1]
                n_support = _count_support_classes(images, count)
                chosen = {*_draw(pairs, n_support, "class-wise", seed, count, number)}
                support = {name: images[name] for name in images if name in chosen}
            elif names:
                key = ("episode", seed, count, number)
                support = {name: _draw(images[name], count, *key, name) for name in names}
            else:
                problem = f"no test class has more than {count} images (support and a query)"
                raise OodmlError(problem, "shots", count)
            drawn.append(Episode(support, class_wise=by_class))
        episodes[count] = tuple(drawn)
    return episodes


def fill_support(
    progression: Progression, ids: Sequence[str], classes: Sequence[str]
) -> Progression:
    """Replace the support file names of a published file by image ids [n] of the data.

    Published files contain only file names, which are unique within a class, and class names for
    class-wise episodes; those get all images of their classes.
    """

    def fill(split: Split) -> Split:
        images = images_of(ids, classes, split.test)

        def find(episode: Episode) -> Episode:
            for name in episode.support:
                if name not in images:
                    raise OodmlError(f"support class {name!r} is not a test class", given=name)
            support = {
                name: images[name] if episode.class_wise else _match(name, files, images[name])
                for name, files in episode.support.items()
            }
            return replace(episode, support=support)

        episodes = {shots: tuple(map(find, drawn)) for shots, drawn in split.episodes.items()}
        return replace(split, episodes=episodes)

    return replace(progression, splits=tuple(map(fill, progression)))


def _match(name: str, files: Sequence[str], images: tuple[str, ...]) -> tuple[str, ...]:
    if set(files) <= set(images):
        return tuple(files)
    by_file: defaultdict[str, list[str]] = defaultdict(list)
    for image in images:
        by_file[PurePath(image).name].append(image)
    for file in files:
        matches = len(by_file[PurePath(file).name])
        if matches != 1:
            problem = f"matches {matches} images instead of 1"
            raise OodmlError(f"support image {file!r} of class {name!r} {problem}", given=file)
    return tuple(by_file[PurePath(file).name][0] for file in files)


def images_of(
    ids: Sequence[str], classes: Sequence[str], wanted: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """The images of each wanted class, sorted by id, in the order of `wanted`."""
    by_class: defaultdict[str, list[str]] = defaultdict(list)
    for image, name in zip(ids, classes, strict=True):
        by_class[str(name)].append(str(image))
    images = {name: tuple(sorted(by_class.get(name, ()))) for name in wanted}
    for name, of_class in images.items():
        if not of_class:
            raise OodmlError(f"class {name!r} has no image in the data", given=name)
    return images


def _count_support_classes(images: Mapping[str, tuple[str, ...]], shots: int) -> int:
    singles = [name for name in images if len(images[name]) == 1]
    problem = ""
    if len(images) < 4:
        problem = (
            f"{len(images)} test classes with at most {shots} images each are too few for "
            "class-wise episodes; use at least 4 classes or fewer shots"
        )
    elif len(images) - len(singles) < 2:
        problem = (
            "class-wise episodes need 2 test classes with at least 2 images; "
            f"{len(singles)} of the {len(images)} test classes have one image: {_list(singles)}. "
            "Remove these classes or set fewer shots"
        )
    if problem:
        raise OodmlError(problem, "shots", shots)
    wanted = max(2, round(shots * len(images) ** 2 / sum(map(len, images.values()))))
    return min(wanted, len(images) // 2, len(images) - len(singles))


def _list(names: Iterable[str]) -> str:
    named = list(names)
    more = f", and {len(named) - 5} more" if len(named) > 5 else ""
    return ", ".join(map(repr, named[:5])) + more


def _draw(names: Iterable[str], count: int, *key: object) -> tuple[str, ...]:
    """Draw `count` different names; the result depends only on the key and the sorted names."""
    generator = np.random.default_rng(int(content_hash(*map(str, key))[:32], 16))
    pool = sorted(names)
    return tuple(pool[i] for i in generator.choice(len(pool), size=count, replace=False))
