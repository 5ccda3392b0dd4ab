"""Each command answers in sentences, names the next command, and prints JSON on request."""

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from oodml.cli import app
from tests.docs.requirements import vectors
from tests.report.study_folder import made_up_study

OF_VECTORS = {
    "evaluate": "evaluate a.npz --k 1,4",
    "evaluate runs": "evaluate a.npz --gallery b.npz --retrieval-only --k 1 --k 4",
    "open set": "evaluate a.npz --open-set --far 0.1",
    "sizes": "evaluate known.npz --distractors others.npz --sizes 1e2,1e3",
    "compare": "compare a.npz b.npz --resamples 20 --metric recall@1,map",
    "threshold": "threshold a.npz --far 0.2 --out t.json",
    "compress": "compress a.npz --dims 8,4 --precision int8",
    "shift": "shift a.npz c.npz --resamples 5",
    "drift": "shift a.npz c.npz --test",
    "drift page": "shift a.npz c.npz --test --page drift.html",
    "per class": "evaluate a.npz --per-class classes.csv",
    "figure": "threshold a.npz --out figure.json --figure threshold.png",
    "index": "index a.npz --out a.faiss",
    "index error": "evaluate a.npz --index a.faiss",
    "run": "evaluate a.npz --write-trec ranked",
    "ranking": "evaluate ranked.run --qrels ranked.qrels",
    "build": "splits build --vectors a.npz --out s.json --n-splits 2",
}
OF_STUDIES = {
    "status": "study status study",
    "table": "study table study --metric recall@1,map@r --rows method,seed",
    "cache": "data cache",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    for seed, name in enumerate("abc"):
        vectors(seed=seed).save(folder / f"{name}.npz")
    whole = vectors(classes=16)
    whole.subset(whole.class_names[:8]).save(folder / "known.npz")
    whole.subset(whole.class_names[8:]).save(folder / "others.npz")
    made_up_study(folder / "study", seeds=2, shots=())
    (folder / "study" / "plan.json").write_text(json.dumps({"name": "study", "runs": []}))
    return folder


@pytest.mark.parametrize("command", {**OF_VECTORS, **OF_STUDIES}.values())
def test_an_answer_before_numbers_and_the_next_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OODML_CACHE", str(folder / "study"))
    words, before = shlex.split(command), set(folder.iterdir())
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for path in set(folder.iterdir()) - before:
        assert path.name in result.stdout
    sentences = result.stdout.split("┏")[0].splitlines()
    assert 1 <= len([one for one in sentences if one.strip()]) <= 6, result.stdout
    following = result.stderr.rpartition("Next: oodml ")[2].strip()
    assert following
    assert "\n" not in following
    assert sorted(shlex.split(following)) != sorted(words)
    assert (
        CliRunner().invoke(app, [*following.split(" --")[0].split()[:1], "--help"]).exit_code == 0
    )


@pytest.mark.parametrize("command", {**OF_VECTORS, **OF_STUDIES}.values())
def test_json_is_all_that_is_printed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    if command == OF_VECTORS["build"]:
        command = "splits show s.json"
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OODML_CACHE", str(folder / "study"))
    words = [*shlex.split(command), "--json"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert json.loads(result.stdout)
    assert "Next:" not in result.stderr


def test_an_answer_states_which_output_it_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for command, file in ((OF_VECTORS["build"], "again.json"), (OF_VECTORS["threshold"], "u.json")):
        words = [file if word in ("s.json", "t.json") else word for word in shlex.split(command)]
        outputs = [CliRunner().invoke(app, words).stdout for _ in range(2)]
        assert [f"replaced {file}" in output for output in outputs] == [False, True]
        assert f"wrote {file}" not in outputs[1]
