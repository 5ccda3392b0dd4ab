"""What the runs of a study share."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oodml.errors import OodmlError
from oodml.shift.build import SplitSettings
from oodml.shift.files import write_splits
from oodml.shift.splits import Episode, Progression, Split
from oodml.study.context import given_splits, plan_of, progression_key
from oodml.study.file import SplitFile
from tests.samples import squares
from tests.study.toy import toy_study


def written(folder: Path, support: str) -> SplitFile:
    episode = Episode({"c02": (support,), "c03": ("024",)})
    split = Split(0, ("c00", "c01"), ("c02", "c03"), 1.0, episodes={1: (episode,)})
    write_splits(Progression((split,), "published"), folder / "splits.json")
    return SplitFile(file=folder / "splits.json")


def test_support_of_a_published_file_is_named_as_the_data_names_it(tmp_path: Path) -> None:
    filled = given_splits(written(tmp_path, "016"), squares())
    assert filled[0].episodes[1][0].support == {"c02": ("c02/016",), "c03": ("c03/024",)}


def test_support_that_the_data_lacks_is_told_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="999"):
        given_splits(written(tmp_path, "999"), squares())


def test_other_superclasses_make_another_progression(tmp_path: Path) -> None:
    study = toy_study(tmp_path).model_copy(update={"splits": SplitSettings()})
    images = squares()
    assert images.superclasses is not None
    swapped = np.where(images.superclasses == "odd", "even", "odd")
    regrouped = replace(images, superclasses=swapped)
    assert progression_key(study, images) != progression_key(study, regrouped)
    order = np.random.default_rng(0).permutation(len(images))
    assert progression_key(study, images) == progression_key(study, images.select(order))


def test_a_plan_keeps_the_weights_of_the_shift_and_where_its_code_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shift_network.py").write_text("def made(weights=None): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    splits = SplitSettings(backbone="shift_network:made", weights="own.safetensors")
    study = toy_study(tmp_path / "toy")
    sides = (("c00", "c01"), ("c02", "c03"))
    progression = Progression((Split(0, *sides, 1.0),), "published")
    plan = plan_of(study.model_copy(update={"splits": splits}), progression, squares(), "key")
    assert plan["shift_weights"] == "own.safetensors"
    assert plan["import_from"] == [str(tmp_path)]
    assert plan_of(study, progression, squares(), "key")["shift_weights"] is None
