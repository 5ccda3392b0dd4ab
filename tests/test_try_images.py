"""`oodml try`: a plan that fits the time, an ordinary study, and sentences that agree with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from oodml.cli import app
from oodml.datasets import open_images
from oodml.errors import OodmlError
from oodml.images.image_set import ImageSet
from oodml.progress import Progress
from oodml.results.schema import Stage, read_results
from oodml.study.spec.study_file import read_study
from oodml.try_images import (
    METHODS,
    METRIC,
    _FirstStudy,
    plan_first_study,
    try_images,
)


def write_folder(images: ImageSet, folder: Path) -> Path:
    for row, name in enumerate(images.ids.tolist()):
        file = folder / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        images.read(row).save(file)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = open_images("glyphs", scripts=["greek", "hebrew"], few=(24, 8))
    return write_folder(images, tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """New images without classes, one of them damaged."""
    images = open_images("glyphs", scripts=["thai"], few=(7, 4))
    folder = tmp_path_factory.mktemp("data") / "new"
    folder.mkdir()
    for row in range(len(images)):
        images.read(row).save(folder / f"{row}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


class VariableClock:
    """A clock that advances by `step` seconds with every reading."""

    now, step = 0.0, 0.01

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.mark.slow
def test_the_answer_agrees_with_a_study_that_can_be_extended(
    photos: Path, new: Path, tmp_path: Path
) -> None:
    out, clock = tmp_path / "study", VariableClock()
    clock.step = 1.0

    def log(message: str) -> None:  # the budget is spent after the first seed
        clock.step = 1000.0 if message.startswith("Comparing") else clock.step

    options: dict[str, Any] = {"backbone": "pixels", "minutes": 0.6, "clock": clock, "log": log}
    result = try_images(str(photos), out, new=str(new), **options)
    assert len(result.sentences) == 6
    forecast = CliRunner().invoke(app, ["forecast", str(out), "--new", str(new)])
    sentences = forecast.output.splitlines()[:2]
    assert str(new) in sentences[1]
    assert result.sentences[-1] == " ".join(sentences)
    assert result.page.exists()
    table = read_results(out / "results.parquet")
    study = read_study(result.study_file)
    assert set(table["method"]) == {variant.label for variant in study.variants}
    rows = table[(table["stage"] == Stage.ZERO_SHOT) & (table["metric"] == METRIC)]
    easiest, hardest = (
        rows[rows["shift"] == shift] for shift in (rows["shift"].min(), rows["shift"].max())
    )
    loss = next(text for text in result.sentences if "easiest" in text)
    method = next(name for name in set(table["method"]) if f"split, {name} " in loss)
    for part in (easiest, hardest):
        value = part.loc[part["method"] == method, "value"].mean()
        assert f"{100 * value:.1f}%" in loss
    text = result.study_file.read_text().replace(
        "[methods.frozen]", "[methods.arcface]\n\n[methods.frozen]"
    )
    result.study_file.write_text(text)
    done = CliRunner().invoke(app, ["study", "run", str(result.study_file), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "arcface" in set(read_results(out / "results.parquet")["method"])


@given(st.floats(1.0, 1e6), st.integers(8, 200), st.integers(6, 40))
@settings(deadline=None, max_examples=50)
def test_features_fit_into_the_budget(affordable: float, classes: int, per_class: int) -> None:
    names = np.repeat([f"c{k:03d}" for k in range(classes)], per_class)
    ids = np.array([f"{name}/{i}" for i, name in enumerate(names)])
    images = ImageSet("x", ids, names, pixels=np.zeros((len(ids), 1, 1), np.uint8))
    plan = plan_first_study(images, affordable)
    used = len(images) if plan.few is None else min(plan.few[0] * plan.few[1], len(images))
    smallest = min(8, classes) * 6  # fewer images would not make a study
    assert used * (1 + plan.views) <= max(affordable, 2 * smallest) + 1e-6


@pytest.mark.slow
def test_stages_that_no_longer_fit_are_left_out(photos: Path, tmp_path: Path) -> None:
    clock = VariableClock()

    def log(message: str) -> None:
        if "proxy_anchor" in message:  # the second stage
            clock.step = 30.0

    result = try_images(
        str(photos), tmp_path / "study", backbone="pixels", minutes=0.5, clock=clock, log=log
    )
    names = {*METHODS[:2], "frozen"}
    assert {variant.label for variant in read_study(result.study_file).variants} == names
    assert set(read_results(tmp_path / "study" / "results.parquet")["method"]) == names
    assert "leaves out proxy_anchor" in result.sentences[0]


def test_features_are_reduced_when_the_machine_slows_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = VariableClock()
    folder = write_folder(open_images("glyphs", few=(60, 12)), tmp_path / "many")
    original = Progress.__init__

    def init(self: Progress, *args: Any, **options: Any) -> None:
        original(self, *args, **(options | {"clock": clock}))

    def log(message: str) -> None:
        clock.step = 20.0 if message.startswith("Embedding 720") else 0.01

    monkeypatch.setattr(Progress, "__init__", init)
    study = _FirstStudy(str(folder), tmp_path, "pixels", None, log, 60.0, clock, clock())
    plan, _ = study.compute_features(open_images(str(folder)), None, 0.001)
    assert plan.few is not None


def test_too_few_classes_are_refused(tmp_path: Path) -> None:
    images = open_images("glyphs", scripts=["greek"], few=(4, 4))
    with pytest.raises(OodmlError) as caught:
        try_images(str(write_folder(images, tmp_path / "few")), tmp_path / "out", backbone="pixels")
    assert caught.value.given == 4
