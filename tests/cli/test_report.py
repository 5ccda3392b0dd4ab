from pathlib import Path

import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.errors import OodmlError
from tests.report.study_folder import made_up_study


def test_report_names_the_page(tmp_path: Path) -> None:
    made_up_study(tmp_path, seeds=1, shots=())
    found = CliRunner().invoke(app, ["report", str(tmp_path), "--no-paper"])
    assert found.exit_code == 0, found.output
    assert "report.html" in found.output
    assert (tmp_path / "report.html").exists()
    assert not [*tmp_path.rglob("*.pdf")]


def test_report_on_no_study_says_what_is_missing(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert isinstance(found.exception, OodmlError)
    assert "results.parquet" in str(found.exception)


def test_help_has_an_example() -> None:
    assert "oodml report results/" in CliRunner().invoke(app, ["report", "--help"]).output


@pytest.mark.parametrize("option", ["--nothing"])
def test_unknown_option(option: str) -> None:
    assert CliRunner().invoke(app, ["report", "x", option]).exit_code == 2
