"""`oodml study …` and `oodml cache …`, as a user types them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from oodml.cli import app
from oodml.cli.study import _describe_best
from oodml.errors import OodmlError
from oodml.study.folder.named_run import run_folder
from oodml.study.folder.store import Store
from oodml.study.spec.shipped import open_study
from oodml.study.spec.study_file import read_study
from oodml.study.workers import work as workers
from oodml.vectors import VectorSet
from tests.study.toy import execute, execute_badly, make_study


@pytest.fixture(autouse=True)
def _toy_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "default_execute", lambda: execute)


def call(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, OodmlError):
        raise result.exception
    return result


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    assert call("study", "run", make_study(tmp_path, 2), "--out", folder).exit_code == 0
    return folder


def test_a_study_is_run_and_its_status_told(out: Path) -> None:
    again = call("study", "run", out.parent / "study.toml", "--out", out)
    assert again.stdout.splitlines()[-1] == f"12 of 12 runs done: {out}/results.parquet"
    assert call("study", "status", out).stdout == "study: 12 of 12 runs done\n"


def test_failures_end_non_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "default_execute", lambda: execute_badly)
    file, out = make_study(tmp_path, 1), tmp_path / "out"
    ended = call("study", "run", file, "--out", out)
    assert ended.exit_code == 1
    assert "RuntimeError: the boundary is gone" in ended.output
    assert "margin on split 0, seed 0" in ended.output
    monkeypatch.setattr(workers, "default_execute", lambda: execute)
    assert call("study", "run", file, "--out", out, "--retry").exit_code == 0


def test_a_mistake_writes_nothing(tmp_path: Path) -> None:
    file = make_study(tmp_path, 1, more="bta = 1\n")
    with pytest.raises(OodmlError, match="bta") as raised:
        call("study", "run", file, "--out", tmp_path / "out")
    assert raised.value.location.endswith("methods.multisimilarity.bta")
    assert not (tmp_path / "out").exists()


def test_a_dry_run_lists_and_writes_nothing(tmp_path: Path) -> None:
    file, folder = make_study(tmp_path, 1), tmp_path / "out"
    listed = call("study", "run", file, "--out", folder, "--dry-run").output
    assert listed.count("to do  ") == 6
    assert re.search(r"6 of 6 runs to do: about .+ of one worker and [\d.]+ [kM]B", listed)
    assert not folder.exists()
    call("study", "run", file, "--out", folder)
    file.write_text(file.read_text().replace("seeds = [0]", "seeds = [0, 1]"))
    listed = call("study", "run", file, "--out", folder, "--dry-run").output
    assert listed.count("done   margin on split") == 3
    assert re.search(r"6 of 12 runs to do, about [\d.]+ s of one worker and [\d.]+ kB", listed)
    file.write_text('name = "another"\n' + file.read_text())
    options = ["study", "run", str(file), "--out", str(folder), "--dry-run"]
    refused = CliRunner().invoke(app, options).exception
    assert isinstance(refused, OodmlError)
    assert refused.given == "another"
    assert "12 runs" in call(*options, "--replace").output


def test_methods_are_compared_on_common_splits() -> None:
    rows = [("a", "0", 0.2), ("a", "1", 0.4), ("b", "0", 0.3)]
    table = pd.DataFrame(rows, columns=["method", "split", "value"])
    answer = _describe_best(table, ["method"], "recall@1")
    assert "(0)" in answer
    assert "b has" in answer
    assert _describe_best(table.iloc[:2], ["method"], "recall@1").startswith("a has")
    assert "no split in common" in _describe_best(table.iloc[1:], ["method"], "recall@1")


def test_a_smoke_run_tries_the_ends_of_the_progression(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    call("study", "run", make_study(tmp_path, 3), "--out", folder, "--smoke")
    table = pd.read_parquet(folder / "results.parquet")
    assert set(table.split) == {"0", "2"}
    assert set(table.seed) == {0}


def test_a_smoke_run_replaces_no_results(tmp_path: Path) -> None:
    file, folder = make_study(tmp_path, 1), tmp_path / "out"
    call("study", "run", file, "--out", folder, "--smoke")
    call("study", "run", file, "--out", folder, "--smoke")
    call("study", "run", file, "--out", folder)
    before = (folder / "results.parquet").read_bytes()
    refused = CliRunner().invoke(app, ["study", "run", str(file), "--out", str(folder), "--smoke"])
    assert isinstance(refused.exception, OodmlError)
    assert refused.exception.location == str(folder)
    assert (folder / "results.parquet").read_bytes() == before


def test_a_dry_smoke_run_writes_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    listed = call("study", "run", "paper_few_shot_cub200", "--out", "o", "--smoke", "--dry-run")
    assert "multisimilarity, seeds 0" in listed.output
    assert not list(tmp_path.iterdir())


def test_the_table_is_pivoted(out: Path) -> None:
    shown = call("study", "table", out, "--where", "method=margin", "--columns", "seed").output
    assert "margin" in shown
    assert "multisimilarity" not in shown
    assert shown.count("±") == 2
    call("study", "table", out, "--rows", "method,seed", "--out", out / "t.csv")
    written = pd.read_csv(out / "t.csv")
    table = pd.read_parquet(out / "results.parquet")
    first = table[(table.metric == "recall@1") & (table.method == "margin") & (table.seed == 0)]
    row = written[(written.method == "margin") & (written.seed == 0)]
    assert row[["0", "1", "2"]].to_numpy()[0] == pytest.approx(first.value.to_numpy(), abs=5e-5)


@pytest.mark.parametrize(
    ("options", "given", "allowed"),
    [
        (["--metric", "recal@1"], "recal@1", "recall@1"),
        (["--where", "sed=1"], "sed", "seed"),
        (["--where", "seed"], "seed", ""),
        (["--rows", "metod"], "metod", "method"),
        (["--rows", "split"], "split", ""),
    ],
)
def test_an_impossible_table_is_refused(
    out: Path, options: list[str], given: str, allowed: str
) -> None:
    with pytest.raises(OodmlError) as raised:
        call("study", "table", out, *options)
    assert raised.value.given == given
    assert not allowed or allowed in raised.value.allowed


def photos(folder: Path, classes: int, images: int) -> Path:
    from PIL import Image

    for name in range(classes):
        for index in range(images):
            path = folder / "photos" / f"class{name:02}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (name * 20, index * 20, 0)).save(path)
    return folder / "photos"


@pytest.mark.parametrize(("images", "shots"), [(3, ()), (5, (2,)), (8, (2, 5))])
def test_a_first_study_file_fits_the_images(
    images: int, shots: tuple[int, ...], tmp_path: Path
) -> None:
    data, file = photos(tmp_path, 10, images), tmp_path / "sub" / "mine.toml"
    call("study", "init", data, "--out", file)
    study = read_study(file)
    assert study.data.name == str(data)
    assert study.shots == shots
    assert len(study.variants) == 5
    with pytest.raises(OodmlError, match="--out"):
        call("study", "init", data, "--out", file)


def test_too_few_classes_are_told(tmp_path: Path) -> None:
    with pytest.raises(OodmlError, match="8") as raised:
        call("study", "init", photos(tmp_path, 3, 3), "--out", tmp_path / "mine.toml")
    assert raised.value.given == 3


def test_the_cache_is_listed_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OODML_CACHE", str(tmp_path / "cache"))
    assert "empty" in call("data", "cache").output
    (tmp_path / "cache" / "features").mkdir(parents=True)
    (tmp_path / "cache" / "features" / "a.safetensors").write_bytes(b"x" * 2000)
    assert "features: 1 file, 2.0 kB" in call("data", "cache").output
    with pytest.raises(OodmlError, match="'features'"):
        call("data", "cache", "--clear", "feature", "--yes")
    assert "freed 2.0 kB" in call("data", "cache", "--clear", "--yes").output
    assert not (tmp_path / "cache" / "features").exists()


def test_status_loads_nothing_heavy(out: Path) -> None:
    code = (
        "import sys; from oodml.study.folder.status import format_status, read_status\n"
        "print(format_status(read_status(sys.argv[1])))\n"
        "print(*[m for m in ('torch', 'pandas') if m in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(out)], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "study: 12 of 12 runs done\n\n"


def test_a_run_is_named_by_its_method(out: Path) -> None:
    plan = Store(out).read_plan()
    label = plan.runs[0].label
    by_shift = sorted((run for run in plan.runs if run.label == label), key=lambda r: r.shift)
    standard = [run for run in by_shift if run.split == "0"] or by_shift[:1]
    assert run_folder(f"{out}:{label}") == Store(out).runs / standard[0].id
    last = by_shift[-1]
    named = run_folder(f"{out}:{label}:{last.split}:{last.seed}")
    assert named == Store(out).runs / last.id
    for unknown, part in (
        ("nothing", "nothing"),
        (f"{label}:77", "77"),
        (f"{label}:{last.split}:9", "9"),
    ):
        with pytest.raises(OodmlError) as raised:
            run_folder(f"{out}:{unknown}")
        assert raised.value.given == part
    assert run_folder("package.module:function") is None
    assert run_folder(out / "runs" / last.id) is None


@pytest.mark.parametrize(
    "command",
    [
        "compress RUN --fit RUN --dims 2",
        "evaluate RUN --gallery RUN",
        "shift RUN RUN --measure fid_class_means --resamples 0",
    ],
)
def test_every_file_of_vectors_may_be_a_run(out: Path, command: str) -> None:
    plan = Store(out).read_plan()
    name = f"{out}:{plan.runs[-1].label}"
    folder, random = run_folder(name), np.random.default_rng(0)
    assert folder is not None
    classes = np.repeat(["a", "b", "c", "d"], 6)
    VectorSet(random.normal(size=(24, 4)), classes).save(folder / "vectors.npz")
    answers = [
        CliRunner().invoke(app, [*command.replace("RUN", text).split(), "--json"])
        for text in (name, str(folder / "vectors.npz"))
    ]
    assert answers[0].exit_code == 0, answers[0].output
    assert answers[0].stdout == answers[1].stdout


def test_a_shipped_study_is_copied(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    (tmp_path / "birds").mkdir()
    name = "paper_zero_shot_cub200"
    call("study", "init", "--from", name, "--root", tmp_path / "birds", "--out", file)
    copied, shipped = read_study(file), open_study(name)
    assert copied.data.options["root"] == str(tmp_path / "birds")
    assert [one.label for one in copied.variants] == [one.label for one in shipped.variants]
    with pytest.raises(OodmlError) as raised:
        call("study", "init", "--from", "paper", "--out", tmp_path / "other.toml")
    assert raised.value.given == "paper"
