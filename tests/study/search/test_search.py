"""Searching options: the same budget for every method, on validation classes alone."""

import csv
import json
import math
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.errors import OodmlError
from oodml.shift.files import read_splits, write_splits
from oodml.study import run as study_run
from oodml.study import run_inputs
from oodml.study.folder.status import format_status, read_status
from oodml.study.launch import run_study, search_study
from oodml.study.plan import Run
from oodml.study.prepare import Context
from oodml.study.preview import preview
from oodml.study.spec.smoke import smoke_study
from oodml.study.spec.study_file import Study, read_study
from oodml.study.workers.local import process_context
from tests.images.samples import squares, write_folder
from tests.study.toy import execute, make_study

pytest.importorskip("optuna", reason="the extra oodml[search] is not installed")

BEST_LR = 3e-3
METHODS = """
[train]
lr = {low = 1e-5, high = 1e-1, log = true}
[methods.margin]
beta = [0.6, 1, 1.2]
[methods.multisimilarity]
[methods.frozen]
"""


def make_search(folder: Path, text: str = METHODS, head: str = "search = 12") -> Path:
    """A toy study with validation classes and a search."""
    file = make_study(folder)
    splits = read_splits(folder / "splits.json")
    with_validation = tuple(replace(s, validation=s.train[:1]) for s in splits)
    write_splits(replace(splits, splits=with_validation), folder / "splits.json")
    file.write_text(
        f'data = "photos"\nsplits = {{file = "splits.json"}}\n{head}\n'
        f'[model]\nbackbone = "pixels"\nviews = 1\n{text}'
    )
    return file


def toy_trial(run: Run, context: Context, folder: Path) -> pd.DataFrame:
    """Best at one learning rate, and at the largest β. Each call is noted."""
    calls = folder.parents[1] / "calls"
    calls.mkdir(exist_ok=True)
    (calls / folder.name).touch()
    distance = abs(math.log10((run.train.lr or 1e-3) / BEST_LR))
    value = 1 / (1 + distance) + 0.1 * float(run.options.get("beta", 0))
    return pd.DataFrame(
        [
            {"stage": "validation", "shots": None, "episode": None, "metric": m, "value": v}
            for m, v in (("recall@1", value), ("map@r", -value), ("epoch", 3.0))
        ]
    )


def slow_trial(run: Run, context: Context, folder: Path) -> pd.DataFrame:
    """The same, in a twentieth of a second."""
    time.sleep(0.05)
    return toy_trial(run, context, folder)


def unlucky_trial(run: Run, context: Context, folder: Path) -> pd.DataFrame:
    """The same, but one method never trains, and another fails with a high learning rate."""
    if run.method == "margin" and (run.train.lr or 0) > BEST_LR:
        raise RuntimeError("the loss is nan")
    return toy_trial(run, context, folder)


def search(study: Study, out: Path, **options: Any) -> Study:
    return search_study(study, out, **{"execute_trial": toy_trial, "device": "cpu"} | options)


def trials(out: Path) -> list[dict[str, str]]:
    with (out / "search" / "trials.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def trials_without_seconds(out: Path) -> list[tuple[str, ...]]:
    """The trials without how long they took."""
    return [tuple(v for k, v in trial.items() if k != "seconds") for trial in trials(out)]


def test_every_method_that_trains_has_the_same_number_of_trials(tmp_path: Path) -> None:
    search(read_study(make_search(tmp_path)), tmp_path / "out")
    assert Counter(t["method"] for t in trials(tmp_path / "out")) == {
        "margin": 12,
        "multisimilarity": 12,
    }


def test_the_first_trial_is_the_defaults_and_the_best_is_chosen(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = search(read_study(make_search(tmp_path)), out)
    for label in ("margin", "multisimilarity"):
        own = [trial for trial in trials(out) if trial["method"] == label]
        assert own[0]["values"] == "{}"
        best = max(own, key=lambda trial: float(trial["value"]))
        record = result.chosen["methods"][label]  # type: ignore[index]
        assert record["value"] == float(best["value"]) >= float(own[0]["value"])
        assert record["trial"] == int(best["trial"])
        assert record["default"] == float(own[0]["value"])
        for trial in own[1:]:
            assert 1e-5 <= json.loads(trial["values"])["train.lr"] <= 1e-1
    margin, _, frozen = result.variants
    values = result.chosen["methods"]["margin"]["chosen"]  # type: ignore[index]
    assert (margin.options["beta"], margin.train.lr) == (values["beta"], values["train.lr"])
    assert frozen.train.lr is None
    assert not any(variant.ranges for variant in result.variants)
    assert result.search is None


def test_the_search_finds_more_than_chance(tmp_path: Path) -> None:
    text = "[methods.multisimilarity]\ntrain = {lr = {low = 1e-9, high = 1e3, log = true}}\n"
    study = read_study(make_search(tmp_path, text, "search = 30"))
    search(study, tmp_path / "out")
    values = np.array([float(trial["value"]) for trial in trials(tmp_path / "out")])
    assert values[15:].mean() > 1.3 * values[1:8].mean()  # those after the random ones


def test_workers_do_not_change_what_is_chosen(tmp_path: Path) -> None:
    study = read_study(make_search(tmp_path, head="search = 6"))
    one = search(study, tmp_path / "one")
    two = search(study, tmp_path / "two", execute_trial=slow_trial, workers=2)
    assert trials_without_seconds(tmp_path / "one") == trials_without_seconds(tmp_path / "two")
    assert one.chosen == two.chosen


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("on", "module"), [("ray", "ray"), ("slurm:local", "submitit")])
def test_an_engine_chooses_what_one_process_does(
    on: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(module)
    root = str(Path(__file__).parents[2])  # where the workers find the toy
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    study = read_study(make_search(tmp_path, head="search = 6"))
    one = search(study, tmp_path / "one")
    other = search(study, tmp_path / "engine", execute_trial=slow_trial, workers=2, executor=on)
    assert other.chosen == one.chosen
    assert trials_without_seconds(tmp_path / "engine") == trials_without_seconds(tmp_path / "one")


def test_a_finished_trial_is_never_repeated(tmp_path: Path) -> None:
    study, out = read_study(make_search(tmp_path)), tmp_path / "out"
    first = search(study, out)
    calls = sorted(path.name for path in (out / "search" / "calls").iterdir())
    assert len(calls) <= 24
    assert search(study, out) == first
    assert sorted(path.name for path in (out / "search" / "calls").iterdir()) == calls


def test_a_larger_budget_keeps_the_trials_of_the_smaller(tmp_path: Path) -> None:
    search(read_study(make_search(tmp_path, head="search = 7")), tmp_path / "out")
    before = {trial[2] for trial in trials_without_seconds(tmp_path / "out")}
    file = tmp_path / "study.toml"
    file.write_text(file.read_text().replace("search = 7", "search = 12"))
    search(read_study(file), tmp_path / "out")
    after = {trial[2] for trial in trials_without_seconds(tmp_path / "out")}
    assert len(before & after) >= 2 * 5  # whole rounds


def by_hand(file: Path, out: Path) -> None:
    search_study(read_study(file), out, execute_trial=slow_trial, device="cpu")


def test_a_killed_search_goes_on_and_chooses_the_same(tmp_path: Path) -> None:
    file = make_search(tmp_path)
    calm = search(read_study(file), tmp_path / "calm")
    out, kills = tmp_path / "wild", 0
    for count in (3, 9, 16):
        process = process_context().Process(target=by_hand, args=(file, out))
        process.start()
        until = time.monotonic() + 60
        while time.monotonic() < until and len(list(out.glob("search/runs/*"))) < count:
            time.sleep(0.01)
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    done = len(list(out.glob("search/runs/*")))
    assert 16 <= done < 24
    assert "of 24 trials done" in format_status(read_status(out))
    wild = search(read_study(file), out)
    assert wild.chosen == calm.chosen
    assert trials_without_seconds(out) == trials_without_seconds(tmp_path / "calm")
    assert len(list(out.glob("search/calls/*"))) <= 24 + kills


def test_a_failed_trial_counts_and_is_told(tmp_path: Path) -> None:
    study, out = read_study(make_search(tmp_path)), tmp_path / "out"
    result = search(study, out, execute_trial=unlucky_trial)
    failed = [trial for trial in trials(out) if trial["failed"]]
    assert failed
    assert {trial["method"] for trial in failed} == {"margin"}
    assert {trial["failed"] for trial in failed} == {"RuntimeError: the loss is nan"}
    assert len(trials(out)) == 24
    record = result.chosen["methods"]["margin"]  # type: ignore[index]
    assert (record["trials"], record["failed"]) == (12, len(failed))
    search(study, out, retry=True)
    assert not [trial for trial in trials(out) if trial["failed"]]


def test_a_method_whose_trials_all_fail_is_an_error(tmp_path: Path) -> None:
    def failing(*_: object) -> pd.DataFrame:
        raise RuntimeError("the loss is nan")

    study = read_study(make_search(tmp_path, head="search = 2"))
    with pytest.raises(OodmlError, match="--retry"):
        search(study, tmp_path / "out", execute_trial=failing)


def test_a_study_with_a_search_runs_what_it_chose(tmp_path: Path) -> None:
    study, out = read_study(make_search(tmp_path)), tmp_path / "out"
    status = run_study(study, out, execute=execute, execute_trial=toy_trial, device="cpu")
    assert (len(status.done), status.total) == (9, 9)
    plan = json.loads((out / "plan.json").read_text())
    record = plan["search"]
    assert {key: record[key] for key in ("trials", "split", "seed", "metric")} == {
        "trials": 12, "split": "0", "seed": 0, "metric": "recall@1",
    }  # fmt: skip
    chosen = {label: one["chosen"] for label, one in record["methods"].items()}
    for run in plan["runs"]:
        if run["label"] != "frozen":
            assert run["train"]["lr"] == chosen[run["label"]]["train.lr"]
    words = format_status(read_status(out))
    assert "search of study: 24 of 24 trials done" in words
    assert "study: 9 of 9 runs done" in words
    assert set(pd.read_parquet(out / "results.parquet").method) == {
        "margin", "multisimilarity", "frozen",
    }  # fmt: skip


def test_the_trials_are_listed_beforehand(tmp_path: Path) -> None:
    study, out = read_study(make_search(tmp_path)), tmp_path / "out"
    before = preview(study, out)
    assert "to do  margin, trial 0: defaults" in before
    assert "later  7 more of margin" in before
    assert "then, with the chosen options:" in before
    assert not out.exists()
    search(study, out)
    after = preview(study, out)
    assert after.count("done   margin, trial") == 12
    assert "9 of 9 runs to do" in after


def test_a_smoke_run_tries_two(tmp_path: Path) -> None:
    text = METHODS + "train = {epochs = [1, 2]}\n"
    study = smoke_study(read_study(make_search(tmp_path, text)), tmp_path)
    assert study.search is not None
    assert study.search.trials == 2
    assert {name for variant in study.variants for name in variant.ranges} == {"beta", "train.lr"}


@pytest.mark.parametrize("mode", ["head", "finetune"])
def test_a_trial_never_sees_a_test_class(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(squares(classes=12, each=6), tmp_path / "photos")
    backbone = '"pixels"' if mode == "head" else '"small"'
    (tmp_path / "study.toml").write_text(
        'data = "photos"\nsearch = {trials = 2, split = 0}\nshots = [2]\nepisodes = 1\n'
        'splits = {backbone = "pixels", steps = [0, 1]}\n'
        f'[model]\nmode = "{mode}"\nbackbone = {backbone}\nviews = 1\ndim = 8\nimage_size = 24\n'
        "[train]\nepochs = 2\nbatch_size = 8\nrefit = true\nlr = [1e-3, 1e-2]\n[methods.margin]\n"
    )
    seen: set[str] = set()
    scored: list[int] = []
    rows, metrics = run_inputs.class_rows, study_run.retrieval_metrics

    def spied_rows(images: Any, classes: tuple[str, ...]) -> Any:
        seen.update(classes)
        return rows(images, classes)

    def spied_metrics(vectors: Any, labels: Any, **options: Any) -> Any:
        scored.append(len(labels))
        return metrics(vectors, labels, **options)

    monkeypatch.setattr(run_inputs, "class_rows", spied_rows)
    monkeypatch.setattr(study_run, "retrieval_metrics", spied_metrics)
    out = tmp_path / "out"
    search_study(read_study(tmp_path / "study.toml"), out, device="cpu", threads=1)
    split = read_splits(out / "splits.json").at(0)
    assert seen == set(split.train)
    assert scored == [6 * len(split.validation)] * 4  # two trials of two epochs
    for row in (out / "search" / "runs").glob("*/rows.parquet"):
        assert set(pd.read_parquet(row).stage) == {"validation"}


# the text, and the key of the error
MISTAKES = {
    "low above high": ("lr = {low = 2.0, high = 1.0}", "train.lr"),
    "low is high": ("lr = {low = 1.0, high = 1.0}", "train.lr"),
    "log of nothing": ("lr = {low = 0, high = 1.0, log = true}", "train.lr.low"),
    "unknown key": ("lr = {low = 1e-3, hihg = 1.0}", "train.lr.hihg"),
    "no high": ("lr = {low = 1e-3}", "train.lr.high"),
    "no number": ('lr = {low = "a", high = 1.0}', "train.lr.low"),
    "infinite": ("lr = {low = 1e-3, high = inf}", "train.lr.high"),
    "outside what is allowed": ("lr = {low = 0, high = 1}", "train.lr"),
    "no whole number": ("epochs = {low = 1.5, high = 3}", "train.epochs"),
    "words": ("precision = {low = 1, high = 2}", "train.precision"),
    "wrong choice": ('lr = [1e-3, "x"]', "train.lr"),
    "no choice": ("lr = []", "train.lr"),
    "repeated choice": ("lr = [1e-3, 0.001]", "train.lr"),
    "adaptation": ("lr = [1e-3]\n[adapt]\nlr = [1e-3, 1e-4]", "adapt.lr"),
}


def refusal(file: Path) -> OodmlError:
    with pytest.raises(OodmlError) as raised:
        read_study(file)
    assert "study.toml" in str(raised.value)
    return raised.value


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_wrong_range_is_refused_with_its_location(mistake: str, tmp_path: Path) -> None:
    text, key = MISTAKES[mistake]
    error = refusal(make_search(tmp_path, f"[train]\n{text}\n[methods.margin]\n"))
    assert error.location.endswith(f": {key}")


OPTION_MISTAKES = {
    "wrong bounds": ("beta = {low = 2, high = 1}", "methods.margin.beta", ""),
    "unknown option": ("bta = {low = 1, high = 2}", "methods.margin.bta", "beta"),
    "unknown choice": ('miner = ["distance", "distnace"]', "methods.margin", "distance"),
    "own table": ("train = {lr = {low = 2, high = 1}}", "methods.margin.train.lr", ""),
}


@pytest.mark.parametrize("mistake", OPTION_MISTAKES)
def test_a_wrong_range_of_a_method_is_refused(mistake: str, tmp_path: Path) -> None:
    text, key, allowed = OPTION_MISTAKES[mistake]
    error = refusal(make_search(tmp_path, f"[methods.margin]\n{text}\n"))
    assert error.location.endswith(f": {key}")
    assert not allowed or allowed in error.allowed


HEADS = {
    "search = 0": "search.trials",
    "search = true": "search",
    'search = "20"': "search",
    "search = {trails = 3}": "search.trails",
    "search = {}": "search.trials",
    'search = {trials = 3, metric = "recal@1"}': "search.metric",
}


@pytest.mark.parametrize("head", HEADS)
def test_a_wrong_search_is_refused(head: str, tmp_path: Path) -> None:
    assert refusal(make_search(tmp_path, head=head)).location.endswith(f": {HEADS[head]}")


def test_a_search_needs_a_range_and_an_interval_a_search(tmp_path: Path) -> None:
    error = refusal(make_search(tmp_path / "a", "[methods.margin]\n"))
    assert error.location.endswith(": search")
    error = refusal(make_search(tmp_path / "b", head=""))
    assert error.location.endswith(": train.lr")
    text = "[methods.margin]\nbeta = {low = 1, high = 2}\n"
    error = refusal(make_search(tmp_path / "c", text, ""))
    assert error.location.endswith(": methods.margin.beta")
    with pytest.raises(OodmlError) as raised:
        search(read_study(make_search(tmp_path / "d", "[methods.margin]\n", "")), tmp_path)
    assert raised.value.location == "search"


def test_a_split_must_exist_and_have_validation_classes(tmp_path: Path) -> None:
    file = make_search(tmp_path, head="search = {trials = 2, split = 9}")
    with pytest.raises(OodmlError, match="9"):
        search(read_study(file), tmp_path / "out")
    splits = read_splits(tmp_path / "splits.json")
    bare = tuple(replace(split, validation=()) for split in splits)
    write_splits(replace(splits, splits=bare), tmp_path / "splits.json")
    file.write_text(file.read_text().replace("split = 9", "split = 1"))
    with pytest.raises(OodmlError, match="splits.validation") as raised:
        search(read_study(file), tmp_path / "out")
    assert (raised.value.location, raised.value.given) == ("search.split", "1")


def test_another_metric_and_a_sum_may_be_chosen_by(tmp_path: Path) -> None:
    head = 'search = {trials = 12, metric = "map@r"}'
    result = search(read_study(make_search(tmp_path, head=head)), tmp_path / "out")
    record = result.chosen["methods"]["margin"]  # type: ignore[index]
    assert record["value"] == max(float(t["value"]) for t in trials(tmp_path / "out")[:12])
    assert record["value"] < 0
    assert result.variants[0].options["beta"] == 0.6


def test_the_command_tells_what_it_chose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oodml.study.run.execute_trial", toy_trial)
    file, out = make_search(tmp_path, head="search = 6"), tmp_path / "out"
    called = CliRunner().invoke(
        app, ["study", "run", str(file), "--search-only", "--out", str(out)]
    )
    assert called.exit_code == 0, called.output
    lines = called.stdout.splitlines()
    assert lines[-3].startswith("margin: beta=")
    assert "(defaults " in lines[-2]
    assert f"{out}/search/trials.csv" in lines[-1]
    assert "study: 0 of 0 runs done" in format_status(read_status(out))


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(OodmlError, match="optuna"):
        search(read_study(make_search(tmp_path)), tmp_path / "out")
