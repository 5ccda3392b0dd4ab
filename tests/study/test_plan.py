"""Runs are known by what changes their numbers, and by nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from oodml.adaptation import AdaptSettings
from oodml.datasets import open_images
from oodml.model import HeadSettings
from oodml.results.plan import RunPlan
from oodml.shift.splits import Episode, Progression, Split
from oodml.study.plan import Run, hash_of_split, plan_runs, run_from_plan
from oodml.study.spec.study_file import Study
from oodml.training.settings import TrainSettings
from tests.study.toy import toy_study

EPISODE = Episode({"c": ("c/0.png",)})
SPLIT = Split(0, ("a", "b"), ("c", "d"), 1.5, ("b",), {1: (EPISODE,), 2: (EPISODE,)})
RUN = Run(
    data="photos",
    fingerprint="f00",
    label="margin",
    method="margin",
    options={"beta": 1.2},
    model=HeadSettings(),
    train=TrainSettings(),
    adapt=AdaptSettings(),
    split=SPLIT,
    shots=(1,),
    seed=0,
)

CHANGES: dict[str, dict[str, Any]] = {
    "images": {"fingerprint": "f01"},
    "method": {"method": "arcface"},
    "option": {"options": {"beta": 0.6}},
    "model": {"model": HeadSettings(dim=64)},
    "training": {"train": TrainSettings(epochs=1)},
    "adaptation": {"adapt": AdaptSettings(iterations=1)},
    "user code": {"code": {"mylab.losses:Loss": "f00d"}},
    "shots": {"shots": (1, 2)},
    "seed": {"seed": 1},
    "test classes": {"split": replace(SPLIT, test=("c", "e"))},
    "validation classes": {"split": replace(SPLIT, validation=("a",))},
    "episodes": {"split": replace(SPLIT, episodes={1: (Episode({"c": ("c/1.png",)}),)})},
}
SAME: dict[str, dict[str, Any]] = {
    "label": {"label": "another"},
    "data name": {"data": "elsewhere"},
    "name of the split": {"split": replace(SPLIT, step="R2")},
    "order of classes": {"split": replace(SPLIT, train=("b", "a"))},
    "episodes not asked for": {"split": replace(SPLIT, episodes={1: (EPISODE,)})},
    "known hash": {"split_hash": hash_of_split(SPLIT, (1,))},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_numbers_changes_the_id(change: str) -> None:
    assert replace(RUN, **CHANGES[change]).id != RUN.id


@pytest.mark.parametrize("change", SAME)
def test_what_does_not_change_them_does_not(change: str) -> None:
    assert replace(RUN, **SAME[change]).id == RUN.id


def test_the_training_of_a_baseline_does_not_count() -> None:
    frozen = replace(RUN, trains=False)
    assert replace(frozen, train=TrainSettings(epochs=1)).id == frozen.id


def test_without_shots_the_adaptation_does_not_count() -> None:
    plain = replace(RUN, shots=())
    assert replace(plain, adapt=AdaptSettings(iterations=1)).id == plain.id


def test_weights_count_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"one")
    (tmp_path / "b.pth").write_bytes(b"one")
    (tmp_path / "c.pth").write_bytes(b"two")
    a, b, c = (
        replace(RUN, model=HeadSettings(weights=str(tmp_path / f"{name}.pth"))).id for name in "abc"
    )
    assert a == b
    assert a != c


def test_the_hash_of_a_split_is_stable_across_versions_of_this_code() -> None:
    """If this fails, ids change and finished studies run again; change it only on purpose."""
    assert hash_of_split(SPLIT, (1,))[:16] == "bdc6b6ee61fc9008"


def plan(study: Study, *splits: Split) -> list[RunPlan]:
    images = open_images(study.data.name)
    return plan_runs(study, Progression(splits, "published"), images)


def test_every_variant_runs_on_every_split_with_every_seed(tmp_path: Path) -> None:
    runs = plan(toy_study(tmp_path, seeds=2), SPLIT, replace(SPLIT, step=2, test=("c",)))
    assert len({run.id for run in runs}) == len(runs) == 2 * 2 * 2
    assert [run.seed for run in runs] == [0] * 4 + [1] * 4
    assert {run.split: run.position for run in runs} == {"0": 0, "2": 1}


def test_a_method_may_go_without_few_shot(tmp_path: Path) -> None:
    study = toy_study(tmp_path, seeds=1, more="few_shot = false\n")
    runs = plan(study.model_copy(update={"shots": (1,)}), SPLIT)
    assert {run.label: run.shots for run in runs} == {"margin": (1,), "multisimilarity": ()}


def test_a_baseline_runs_once(tmp_path: Path) -> None:
    runs = plan(toy_study(tmp_path, seeds=3, more="[methods.frozen]\n"), SPLIT)
    assert [run.seed for run in runs if run.label == "frozen"] == [0]
    assert {run.label for run in runs if not run.trains} == {"frozen"}


def test_a_run_survives_its_plan() -> None:
    written = RUN.to_plan(3).model_dump_json()
    again = run_from_plan(RunPlan.model_validate_json(written), SPLIT)
    assert again == RUN
    assert again.id == RUN.id
