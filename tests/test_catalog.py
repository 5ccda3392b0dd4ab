import subprocess
import sys
from pathlib import Path

import pytest

import oodml
from oodml import catalog
from oodml.errors import OodmlError
from oodml.methods._base import Sizes
from oodml.vectors import VectorSet


def test_names_are_the_files() -> None:
    assert {"margin", "multisimilarity", "arcface", "proxy_anchor"} <= set(catalog.names("losses"))
    assert not any(name.startswith("_") for kind in catalog.KINDS for name in catalog.names(kind))


@pytest.mark.parametrize("kind", sorted(catalog.KINDS))
def test_every_name_has_a_class_or_function(kind: str) -> None:
    for name in catalog.names(kind):
        assert callable(catalog.get_class(kind, name)), name


def test_unknown_names_suggest_the_closest() -> None:
    with pytest.raises(OodmlError, match="Did you mean 'margin'") as error:
        catalog.load("losses", "margn")
    assert error.value.given == "margn"
    assert "triplet" in error.value.allowed
    with pytest.raises(OodmlError, match="Did you mean 'losses'") as error:
        catalog.names("loss")
    assert error.value.allowed == tuple(sorted(catalog.KINDS))


def test_unknown_options_suggest_the_closest() -> None:
    with pytest.raises(OodmlError, match="Did you mean 'margin'") as error:
        catalog.load("losses", "margin", marign=0.1)
    assert (error.value.location, error.value.given) == ("losses.margin", "marign")


def test_an_import_path_names_any_object() -> None:
    assert catalog.get_class("losses", "collections:Counter").__name__ == "Counter"
    with pytest.raises(OodmlError, match="ModuleNotFoundError") as error:
        catalog.get_class("losses", "no_such_package:Loss")
    assert error.value.given == "no_such_package:Loss"


LOSS = """
import torch

class Pull(torch.nn.Module):
    def __init__(self, power: float = 2.0) -> None:
        super().__init__()
        self.power = power

    def forward(self, embeddings, labels, triplets=None):
        return embeddings.abs().pow(self.power).sum()
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path with two distributions that declare entry points."""
    (tmp_path / "beside_oodml.py").write_text(LOSS)
    (tmp_path / "beside_broken.py").write_text("raise RuntimeError('out of order')")
    entry_points = {
        "beside_oodml": "[oodml.losses]\npull = beside_oodml:Pull\n",
        "beside_broken": "[oodml.losses]\nbroken = beside_broken:Loss\n"
        "[oodml.methods]\ngone = no_such_package:Method\n",
    }
    for name, text in entry_points.items():
        info = tmp_path / f"{name}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_installed_packages_add_names(installed: Path) -> None:
    assert {"pull", "broken", "margin"} <= set(oodml.names("losses"))
    assert oodml.load("losses", "pull", power=3.0).power == 3.0
    with pytest.raises(OodmlError, match="Did you mean 'power'"):
        oodml.load("losses", "pull", powr=3.0)
    method = catalog.load("methods", "criterion", sizes=Sizes(3, 4, 5), loss="pull")
    assert method.mined[0].loss.power == 2.0


def test_a_broken_package_is_reported_when_it_is_used(installed: Path) -> None:
    with pytest.raises(OodmlError, match="beside_broken 1.5 .*out of order") as error:
        oodml.load("losses", "broken")
    assert error.value.given == "broken"
    with pytest.raises(OodmlError, match="no_such_package:Method"):
        catalog.get_class("methods", "gone")


@pytest.mark.parametrize("code", ["import oodml", "sys.argv = ['oodml', '--help']; main()"])
def test_a_broken_package_breaks_nothing_else(installed: Path, code: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(installed)!r})\nfrom oodml.cli import main\n{code}"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()


def test_no_package_hides_a_name_of_oodml(installed: Path) -> None:
    text = "[oodml.miners]\nsemihard = beside_oodml:Pull\nnot.a-name = beside_oodml:Pull\n"
    (installed / "beside_oodml-1.5.dist-info" / "entry_points.txt").write_text(text)
    with pytest.warns(UserWarning, match="oodml.miners") as warned:
        miner = catalog.get_class("miners", "semihard")
    assert miner.__module__ == "oodml.miners.semihard"
    assert "not.a-name" not in oodml.names("miners")
    messages = sorted(str(warning.message) for warning in warned)
    assert ["not.a-name" in message for message in messages] == [True, False]
    assert all("beside_oodml 1.5" in message for message in messages)


def test_folders_become_importable_after_installed_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_losses_of_a_test.py").write_text(LOSS)
    (tmp_path / "torch.py").write_text("raise RuntimeError('hidden')")
    catalog.make_importable(tmp_path, tmp_path)
    assert sys.path.count(str(tmp_path)) == 1
    assert oodml.load("losses", "own_losses_of_a_test:Pull").power == 2.0


def test_a_module_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "badly_written.py").write_text("def broken(:")
    with pytest.raises(OodmlError, match="badly_written:Loss.*SyntaxError"):
        catalog.get_class("losses", "badly_written:Loss")


def test_a_missing_study_is_named_for_a_model_and_for_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "plan.json").touch()
    with pytest.raises(OodmlError, match="'results:margin'"):
        catalog.load("backbones", "reslts:margin")
    with pytest.raises(OodmlError, match="'results:margin'"):
        VectorSet.load("reslts:margin")
