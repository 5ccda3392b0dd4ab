"""Killed runs resume their training; diverged runs leave their last finite weights."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

import oodml
from oodml.methods._base import Batch
from oodml.methods.multisimilarity import Method as MultiSimilarity
from oodml.study.folder.claims import Claims
from oodml.study.folder.store import Store
from oodml.study.launch import run_study
from oodml.study.spec.study_file import read_study
from oodml.training.trainer import Trainer
from tests.images.samples import squares, write_folder

ROOT = Path(__file__).parents[2]


def make(folder: Path, methods: str, epochs: int, more: str) -> Path:
    write_folder(squares(classes=8, each=6), folder / "photos")
    file = folder / "study.toml"
    file.write_text(
        'data = "photos"\nsplits = {backbone = "pixels", n_splits = 1}\n'
        'model = {backbone = "small", mode = "finetune", dim = 16, image_size = 24}\n'
        f"train = {{epochs = {epochs}, batch_size = 8, lr = 1e-3, {more}}}\n{methods}"
    )
    return file


def table(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "results.parquet")


def checkpoints(out: Path) -> list[Path]:
    return sorted((out / "checkpoints").rglob("[!.]*.pt"))


def killed(file: Path, out: Path, stage: str) -> None:
    """Start the study as a process of its own, and kill it when a training is under way."""
    command = [sys.executable, "-m", "oodml", "study", "run", str(file), "--out", str(out)]
    options = ["--checkpoint-seconds", "0", "--threads", "1", "--device", "cpu"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL, cwd=ROOT)
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if any(path.stem == stage for path in checkpoints(out)):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the study was through before it could be killed"


@pytest.fixture
def trained_epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs that this process trains."""
    seen: list[int] = []
    original = Trainer.train_epoch

    def train_epoch(self: Trainer, epoch: int, *rest: object) -> dict[str, float]:
        seen.append(epoch)
        return original(self, epoch, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "train_epoch", train_epoch)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["train", "refit"])
def test_a_killed_run_goes_on_within_its_training(
    stage: str, tmp_path: Path, trained_epochs: list[int]
) -> None:
    more = "refit = true, evaluate_every = 40"
    file = make(tmp_path, 'methods = ["uniform_prior"]\n', epochs=40, more=more)
    killed(file, tmp_path / "out", stage)
    known = {}
    for path in checkpoints(tmp_path / "out"):
        known[path.stem] = torch.load(path, weights_only=True)["state"]["epoch"]
    assert known[stage] > 0
    threads = torch.get_num_threads()
    try:
        run_study(read_study(file), tmp_path / "out", device="cpu", threads=1)
        assert trained_epochs[0] == known[stage] + 1
        assert not (tmp_path / "out" / "checkpoints").exists()
        run_study(read_study(file), tmp_path / "calm", device="cpu", threads=1)
    finally:
        torch.set_num_threads(threads)
    pd.testing.assert_frame_equal(table(tmp_path / "out"), table(tmp_path / "calm"),
                                  check_exact=True)  # fmt: skip


class Sick(MultiSimilarity):
    """Its loss is not a number from step 11 on."""

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        factor = float("nan") if batch.step >= 11 else 1.0
        return {name: value * factor for name, value in super().terms(batch).items()}


def test_a_loss_that_is_not_finite_leaves_the_last_good_weights(tmp_path: Path) -> None:
    methods = f'[methods.sick]\nmethod = "{__name__}:Sick"\n'
    file = make(tmp_path, methods, epochs=20, more="evaluate_every = 20")
    out = tmp_path / "out"
    status = run_study(read_study(file), out, device="cpu", checkpoint_seconds=0)
    (run, reason), *_ = status.failed
    text = (out / "failed" / f"{run.id}.txt").read_text()
    assert text.startswith("sick on split ")
    assert ", seed 0\n" in text
    assert all(word in reason for word in ("multisimilarity", "step 11", "c0"))
    assert f"oodml.load_model('{out / 'failed' / run.id}')" in reason
    model = oodml.load_model(out / "failed" / run.id)
    assert all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())
    store = Store(out)
    assert store.failed_ids() == {run.id}
    claim = Claims(store.claims).take(run.id)
    assert claim is not None
    store.publish(run, store.create_unfinished(run.id, claim), 0.0)
    assert not (out / "failed" / run.id).exists()


def test_keeping_epochs_shows_the_best_test_epoch_and_chooses_nothing(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain", 'methods = ["margin"]\n', epochs=4, more="evaluate_every = 2")
    stored = make(tmp_path / "stored", 'methods = ["margin"]\n', epochs=4,
                more="evaluate_every = 2, keep_epochs = true")  # fmt: skip
    for file in (plain, stored):
        run_study(read_study(file), file.parent / "out", device="cpu")
    result, before = table(stored.parent / "out"), table(plain.parent / "out")
    extra = result[result.stage == "best_test_epoch"].set_index("metric").value
    same = result[result.stage != "best_test_epoch"].drop(columns="run").reset_index(drop=True)
    pd.testing.assert_frame_equal(same, before.drop(columns="run"), check_exact=True)
    (history,) = (stored.parent / "out" / "runs").glob("*/history.csv")
    rows = pd.read_csv(history).dropna()
    assert rows.epoch.tolist() == [2, 4]
    assert set(extra.index) == {"recall@1", "map@r", "epoch"}
    best = rows.loc[rows["test_recall@1"].idxmax()]
    assert extra["recall@1"] == pytest.approx(best["test_recall@1"])
    assert extra["map@r"] == pytest.approx(best["test_map@r"])
    assert extra["epoch"] == best.epoch
