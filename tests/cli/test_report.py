import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from oodml.backbones import load_backbone
from oodml.cli import app
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.vectors import VectorSet
from tests.images.samples import write_folder
from tests.report.study_folder import made_up_study


def test_report_names_the_page(tmp_path: Path) -> None:
    made_up_study(tmp_path, seeds=1, shots=())
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--no-paper", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["page"].endswith("report.html")
    assert (tmp_path / "report.html").exists()
    assert not [*tmp_path.rglob("*.pdf")]


def test_report_on_no_study_says_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert isinstance(result.exception, OodmlError)
    assert "results.parquet" in str(result.exception)


def test_help_has_an_example() -> None:
    assert "oodml report results/" in CliRunner().invoke(app, ["report", "--help"]).output


def test_a_forecast_runs_code_of_a_folder_only_if_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = made_up_study(tmp_path / "study", seeds=1, shots=())
    target = write_folder(images, tmp_path / "target")
    features = VectorSet.load(tmp_path / "study" / "features.npz")
    source = {"backbone": "their_network:made", "weights": "none"}
    replace(features, source=source).save(tmp_path / "study" / "features.npz")
    (tmp_path / "study" / "plan.json").write_text(json.dumps({"import_from": [str(tmp_path)]}))
    (tmp_path / "their_network.py").write_text("raise RuntimeError('it ran')\n")
    monkeypatch.setattr(sys, "path", [*sys.path])
    arguments = ["forecast", str(tmp_path / "study"), "--new", str(target)]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, OodmlError)
    assert result.exception.location == "--trust-code"
    assert result.exception.given == "their_network:made"
    trusted = CliRunner().invoke(app, [*arguments, "--trust-code"])
    assert "it ran" in str(trusted.exception)


def test_a_forecast_embeds_the_target_with_the_weights_of_the_study(tmp_path: Path) -> None:
    images = made_up_study(tmp_path, seeds=1, shots=())
    weights = tmp_path / "own.safetensors"
    save_file(load_backbone("small", "none", seed=5).network.state_dict(), weights)
    features = embed(images, "small", weights=str(weights), cache=False)
    features.save(tmp_path / "features.npz")
    seen = images.class_names[12:]
    features.subset(seen).save(tmp_path / "target.npz")
    target = write_folder(images.subset(seen), tmp_path / "target")

    def output(target: Path) -> str:
        result = CliRunner().invoke(app, ["forecast", str(tmp_path), "--new", str(target)])
        if result.exception:
            raise result.exception
        return result.output.partition("\n\n")[2].partition("\n\n")[0]  # the table

    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"shift_weights": str(weights)}))
    assert output(target) == output(tmp_path / "target.npz")
    for others in ({}, {"shift_weights": str(tmp_path / "gone.safetensors")}):
        plan.write_text(json.dumps(others))
        with pytest.raises(OodmlError, match="weights"):
            output(target)


@pytest.mark.parametrize("option", ["--nothing"])
def test_unknown_option(option: str) -> None:
    assert CliRunner().invoke(app, ["report", "x", option]).exit_code == 2
