"""Trackers receive the metrics of every run; they change no numbers and fail no run."""

import logging
import os
from pathlib import Path

import pandas as pd
import pytest

from oodml.errors import OodmlError
from oodml.results.plan import RunPlan
from oodml.study.folder.store import Store
from oodml.study.launch import run_study
from oodml.study.prepare import open_context
from oodml.study.spec.study_file import read_study
from oodml.study.tracking import check_trackers, track_run
from tests.images.samples import squares, write_folder

RUN = RunPlan(
    id="0123456789abcdef",
    label="mine lr=1e-3",
    data="photos",
    fingerprint="f",
    method="margin",
    split="-10",
    shift=12.5,
    seed=3,
    options={"beta": 0.6, "loss_options": None},
    model={"dim": 8},
    train={"lr": None},
)


def make(folder: Path) -> Path:
    write_folder(squares(classes=8, each=6), folder / "photos")
    file = folder / "study.toml"
    file.write_text(
        'data = "photos"\nmethods = ["margin"]\nsplits = {backbone = "pixels", n_splits = 1}\n'
        'model = {backbone = "pixels", views = 1, dim = 16, image_size = 24}\n'
        "train = {epochs = 3, batch_size = 8, refit = true, select = \"map@r\"}\n"
    )  # fmt: skip
    return file


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_holds_losses_validation_and_test(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    study = read_study(make(tmp_path))
    run_study(study, tmp_path / "plain", device="cpu")
    run_study(study, tmp_path / "out", device="cpu", trackers=["tensorboard"])
    plain, result = (pd.read_parquet(tmp_path / n / "results.parquet") for n in ("plain", "out"))
    pd.testing.assert_frame_equal(plain, result, check_exact=True)
    context = open_context(Store(tmp_path / "out"), "cpu")  # as every kind of worker opens it
    assert context.artifact_options == {"checkpoint_seconds": 60, "trackers": ["tensorboard"]}
    (folder,) = (tmp_path / "out" / "tracking" / "tensorboard").iterdir()
    assert folder.name.startswith("margin ")
    (run,) = (path.name for path in (tmp_path / "out" / "runs").iterdir())
    assert folder.name.endswith(f" 0 {run}")  # other options, another run, other curves
    events = accumulators.EventAccumulator(str(folder)).Reload()
    assert [event.step for event in events.Scalars("train/margin")] == [1, 2, 3]
    (history,) = (tmp_path / "out" / "runs").glob("*/history.csv")
    rows = pd.read_csv(history)
    logged = [event.value for event in events.Scalars("validation/recall@1")]
    assert logged == pytest.approx(rows["validation_recall@1"].dropna().tolist())
    refit = [event.step for event in events.Scalars("refit/margin")]
    assert refit == list(range(4, len(rows) + 1))
    (tested,) = events.Scalars("test/recall@1")
    value = result[(result.stage == "zero_shot") & (result.metric == "recall@1")].value.item()
    assert tested.value == pytest.approx(value)
    assert "train.batch_size: 8" in next(folder.glob("*/hparams.yml")).read_text()


class Recorder:
    """Stands in for accelerate's trackers and records their calls."""

    def __init__(self, *arguments: object, **options: object) -> None:
        self.created, self.calls = (arguments, options), []

    def start(self) -> None:
        self.calls.append("start")

    def store_init_configuration(self, values: dict[str, object]) -> None:
        self.config = values

    def log(self, values: dict[str, float], step: int) -> None:
        self.calls.append((step, values))

    def finish(self) -> None:
        self.calls.append("finish")


@pytest.mark.parametrize(
    ("name", "kind", "key"),
    [("wandb", "WandBTracker", "recall@1"), ("mlflow", "MLflowTracker", "recall_at_1"),
     ("trackio", "TrackioTracker", "recall@1")],
)  # fmt: skip
def test_every_tracker_receives_the_same(
    name: str, kind: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created: list[Recorder] = []
    monkeypatch.setattr(
        f"accelerate.tracking.{kind}",
        lambda *a, **o: created.append(Recorder(*a, **o)) or created[-1],
    )
    for variable in ("MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    with track_run([name], "study", RUN, tmp_path / "tracking") as log:
        log({"validation/recall@1": 0.5}, 2)
    (one,) = created
    assert one.calls == ["start", (2, {f"validation/{key}": 0.5}), "finish"]
    assert one.created[0][0] == "study"
    assert "mine lr=1e-3 -10 3" in str(one.created[1])
    assert one.config["options.beta"] == 0.6
    assert one.config["train.lr"] == "None"
    assert all(isinstance(v, bool | int | float | str) for v in one.config.values())


@pytest.mark.parametrize(
    ("name", "kind", "variable"),
    [("mlflow", "MLflowTracker", "MLFLOW_TRACKING_URI"),
     ("trackio", "TrackioTracker", "TRACKIO_DIR")],
)  # fmt: skip
def test_two_studies_of_a_process_keep_their_own_files(
    name: str, kind: str, variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"accelerate.tracking.{kind}", Recorder)
    monkeypatch.delenv(variable, raising=False)
    for study in ("one", "two"):
        with track_run([name], study, RUN, tmp_path / study):
            assert str(tmp_path / study / name) in os.environ[variable]
        assert variable not in os.environ
    monkeypatch.setenv(variable, "server")
    with track_run([name], "three", RUN, tmp_path / "three"):
        assert os.environ[variable] == "server"
    assert os.environ[variable] == "server"


def test_a_failing_tracker_is_logged_once_and_disabled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Recorder):
        def log(self, values: dict[str, float], step: int) -> None:
            raise ConnectionError("no network")

    monkeypatch.setattr("accelerate.tracking.WandBTracker", Broken)
    with (
        caplog.at_level(logging.WARNING, "oodml"),
        track_run(["wandb"], "study", RUN, tmp_path) as log,
    ):
        log({"a": 1.0}, 1)
        log({"a": 1.0}, 2)
    assert caplog.text.count("no network") == 1


def test_an_unavailable_tracker_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OodmlError) as error:
        check_trackers(["tensorbord"])
    assert error.value.given == "tensorbord"
    assert "tensorboard" in error.value.allowed
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(OodmlError, match="pip install tensorboard"):
        check_trackers(["tensorboard"])
    with pytest.raises(OodmlError, match="trackio"):
        check_trackers(["trackio"])
