"""Whatever happens, a command ends with a message and a status, never with a traceback."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from oodml.cli import app, errors
from oodml.cli.errors import BAD_INPUT, DEBUG, UNEXPECTED, report_error, tolerate_any_text
from oodml.errors import OodmlError
from oodml.vectors import VectorSet

EXPECTED = {
    "bad input": (OodmlError("study.toml: seeds: given 3"), "seeds"),
    "no permission": (PermissionError(errno.EACCES, "Permission denied", "/data/x"), "/data/x"),
    "no folder": (FileNotFoundError(errno.ENOENT, "No such file or directory", "x.npz"), "x.npz"),
    "read-only": (OSError(errno.EROFS, "Read-only file system", "/mnt/x"), "/mnt/x"),
    "full disk": (OSError(errno.ENOSPC, "No space left on device"), "OODML_CACHE"),
    "full disk of a library": (RuntimeError("I/O error: No space left on device"), "OODML_CACHE"),
    "no memory": (MemoryError(), "memory"),
    "no GPU memory": (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "batch size"),
}


@pytest.fixture(autouse=True)
def _no_debugging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(DEBUG, raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.parametrize("case", EXPECTED)
def test_foreseeable_errors_are_one_message(
    case: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    error, word = EXPECTED[case]
    assert report_error(error) == BAD_INPUT
    shown = capsys.readouterr().err
    assert shown.startswith("oodml: ")
    assert word in shown
    assert len(shown.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def raised(error: Exception) -> Exception:
    """The error with a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [ZeroDivisionError("integer modulo by zero"), KeyError("mean"), RuntimeError("a\nb"),
     OSError("odd"), AssertionError()],
)  # fmt: skip
def test_unexpected_errors_name_a_log_with_the_traceback(
    error: Exception, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert report_error(raised(error)) == UNEXPECTED
    shown = capsys.readouterr().err
    assert type(error).__name__ in shown
    assert "Traceback" not in shown
    assert len(shown.splitlines()) == 1
    (log,) = tmp_path.iterdir()
    assert str(log) in shown
    assert "Traceback" in log.read_text()


def test_debugging_raises_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEBUG, "1")
    with pytest.raises(OodmlError, match="seeds"):
        report_error(OodmlError("seeds"))


def test_without_a_place_for_a_log_the_traceback_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(errors.tempfile, "mkstemp", refuse)
    assert report_error(raised(KeyError("mean"))) == UNEXPECTED
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("text", ["± … → Größe 日本", "\udce4"])
def test_any_text_can_be_printed(encoding: str, text: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    tolerate_any_text((stream,))
    print(text, file=stream, flush=True)


def test_tables_reach_any_terminal(tmp_path: Path) -> None:
    import numpy as np

    vectors = np.random.default_rng(0).normal(size=(40, 8))
    for name in ("ä", "b"):
        np.savez(tmp_path / f"{name}.npz", vectors=vectors, classes=np.repeat(np.arange(10), 4))
    ran = subprocess.run(
        [sys.executable, "-m", "oodml", "compare", "ä.npz", "b.npz"],
        cwd=tmp_path, env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True,
        check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.decode("ascii")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize(
    "words", [["data", "check", "×−…±"], ["study", "status", "…"], ["embed", "--help"]]
)
def test_output_is_in_the_encoding_of_the_terminal(encoding: str, words: list[str]) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "oodml", *words],
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
        check=False,
    )
    text = (shown.stdout + shown.stderr).decode(encoding)
    assert "Traceback" not in text
    if words[0] == "data":
        signs = {"ascii": "x-...+/-", "latin-1": "×-...±", "utf-8": "×−…±"}
        assert signs[encoding] in text


def test_output_in_a_locale_without_utf8() -> None:
    settings = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    shown = subprocess.run(
        [sys.executable, "-m", "oodml", "data", "check", "×"],
        env={k: v for k, v in os.environ.items() if k != "PYTHONIOENCODING"} | settings,
        capture_output=True,
        check=False,
    )
    assert shown.returncode == BAD_INPUT
    assert shown.stderr.isascii()


def test_outputs_never_replace_inputs(tmp_path: Path) -> None:
    labels = np.repeat([f"c{i}" for i in range(8)], 4)
    file, splits = tmp_path / "v.npz", tmp_path / "s.json"
    VectorSet(np.random.default_rng(0).normal(size=(32, 6)), labels).save(file)
    built = CliRunner().invoke(
        app, ["splits", "build", "--vectors", str(file), "--out", str(splits)]
    )
    assert built.exit_code == 0, built.exception
    (tmp_path / "link.json").symlink_to(splits)
    (tmp_path / "photos" / "a").mkdir(parents=True)
    photos = str(tmp_path / "photos")
    commands = [
        ["splits", "export", splits, "--out", tmp_path / "link.json"],
        ["splits", "export", splits, "--out", splits],
        ["splits", "show", splits, "--figure", splits],
        ["splits", "show", splits, "--vectors", file, "--maps", file],
        ["adapt", "--model", photos, "--support", photos, "--queries", photos, "--out", photos],
    ]
    before = file.read_bytes(), splits.read_bytes()
    for command in commands:
        result = CliRunner().invoke(app, [str(word) for word in command])
        assert isinstance(result.exception, OodmlError), command
        assert "overwrite" in str(result.exception)
    assert before == (file.read_bytes(), splits.read_bytes())
