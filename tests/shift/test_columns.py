from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from oodml.datasets import open_images
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.shift.build import SplitSettings, build_progression
from oodml.shift.distances import frechet_distance
from oodml.shift.splits import Progression
from oodml.vectors import VectorSet
from tests.shift.samples import clustered

DATA = clustered(30)
CLASS = DATA.labels
IMAGES = ImageSet(
    "made up", DATA.ids, DATA.classes, pixels=np.zeros((len(DATA), 2, 2), np.uint8),
    attributes={
        "recording": np.where(CLASS % 3, CLASS // 3, 100 + np.arange(len(CLASS))).astype(str),
        "one": np.zeros(len(CLASS)).astype(str),
        "year": (2000 + (CLASS * 7) % 30 + np.arange(len(CLASS)) % 2).astype(str),
        "word": np.array(["early"] * len(CLASS)),
    },
)  # fmt: skip
"""Of every three classes, the last two share a recording; every image of the first has its own."""


def built(vectors: VectorSet = DATA, **settings: Any) -> Progression:
    return build_progression(vectors, SplitSettings(**settings), (1,), 2, IMAGES)


def test_groups_stay_on_one_side_also_of_the_validation() -> None:
    progression = built(group="recording", swaps=1)
    assert len({split.train for split in progression}) == len(progression) > 2
    values = IMAGES.attributes["recording"]
    for split in progression:
        learned = set(split.train) - set(split.validation)
        sides = [np.isin(DATA.classes, [*side]) for side in (learned, split.validation, split.test)]
        recordings = [set(values[side]) for side in sides]
        assert not recordings[0] & recordings[1]
        assert not (recordings[0] | recordings[1]) & recordings[2]
        assert split.validation
        assert sum(map(sum, sides)) == len(DATA)


@pytest.mark.parametrize(
    ("settings", "location"),
    [
        ({"group": "recordng"}, "splits.group"),
        ({"group": "one"}, "splits.group"),
        ({"group": "recording", "procedure": "exact"}, "splits.group"),
        ({"group": "recording", "time": "year"}, "splits.group"),
        ({"time": "year", "harder": 3}, "splits.harder"),
        ({"time": "word"}, "splits.time"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict[str, Any], location: str) -> None:
    with pytest.raises(OodmlError) as error:
        built(**settings)
    assert error.value.location == location


def test_time_trains_on_the_earlier_classes() -> None:
    progression = built(time="year", n_splits=3)
    years = IMAGES.attributes["year"].astype(float)
    first = {name: years[name == DATA.classes].min() for name in DATA.class_names}
    ends = [max(first[name] for name in progression[0].train)]
    means = dict(zip(DATA.class_names, DATA.class_means(), strict=True))
    for split in progression:
        assert split.train == progression[0].train
        assert min(first[name] for name in split.test) >= ends[-1]
        ends.append(max(first[name] for name in split.test))
        sides = ([means[name] for name in side] for side in (split.train, split.test))
        assert split.shift == pytest.approx(frechet_distance(*map(np.stack, sides)), rel=1e-4)
    tested = [name for split in progression for name in split.test]
    assert sorted([*tested, *progression[0].train]) == sorted(DATA.class_names)


def test_columns_of_a_table_follow_the_images(tmp_path: Path) -> None:
    names = [f"{row}.png" for row in range(6)]
    for name in names:
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    dates = [f"2020-01-0{9 - row}" for row in range(6)]
    table = pd.DataFrame({"path": names[::-1], "class": [*"aabbcc"], "date": dates})
    table.to_csv(tmp_path / "table.csv", index=False)
    images = open_images(tmp_path / "table.csv")
    assert images.attributes["date"].tolist() == dates[::-1]
    assert images.subset(["b"]).attributes["date"].tolist() == dates[3:1:-1]
