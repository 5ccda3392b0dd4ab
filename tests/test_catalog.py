import subprocess
import sys
from pathlib import Path

import pytest

import oodml
from oodml import catalog
from oodml.errors import OodmlError
from oodml.methods._base import Sizes


def test_names_are_the_files() -> None:
    assert {"margin", "multisimilarity", "arcface", "proxy_anchor"} <= set(catalog.names("losses"))
    assert not any(name.startswith("_") for kind in catalog.KINDS for name in catalog.names(kind))


@pytest.mark.parametrize("kind", sorted(catalog.KINDS))
def test_every_file_holds_its_thing(kind: str) -> None:
    for name in catalog.names(kind):
        assert callable(catalog.find(kind, name)), name


def test_an_unknown_name_is_told_the_nearest() -> None:
    with pytest.raises(OodmlError, match="unknown loss 'margn'. Did you mean 'margin'"):
        catalog.load("losses", "margn")
    with pytest.raises(OodmlError, match="unknown kind 'loss'. Did you mean 'losses'"):
        catalog.names("loss")


def test_an_unknown_option_is_told_the_nearest() -> None:
    with pytest.raises(OodmlError, match=r"losses.margin: unknown option 'marign'. Did you mean"):
        catalog.load("losses", "margin", marign=0.1)


def test_an_import_path_reaches_a_thing_of_ones_own() -> None:
    assert catalog.find("losses", "collections:Counter").__name__ == "Counter"
    with pytest.raises(OodmlError, match="cannot import 'no_such_package:Loss'"):
        catalog.find("losses", "no_such_package:Loss")


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
    """A folder of packages on the import path, with two distributions that offer things."""
    (tmp_path / "beside_oodml.py").write_text(LOSS)
    (tmp_path / "beside_broken.py").write_text("raise RuntimeError('out of order')")
    offers = {
        "beside_oodml": "[oodml.losses]\npull = beside_oodml:Pull\n",
        "beside_broken": "[oodml.losses]\nbroken = beside_broken:Loss\n"
        "[oodml.methods]\ngone = no_such_package:Method\n",
    }
    for name, offer in offers.items():
        info = tmp_path / f"{name}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(offer)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_installed_packages_offer_names(installed: Path) -> None:
    assert {"pull", "broken", "margin"} <= set(oodml.names("losses"))
    assert oodml.load("losses", "pull", power=3.0).power == 3.0
    with pytest.raises(OodmlError, match=r"losses.pull: unknown option 'powr'. Did you mean"):
        oodml.load("losses", "pull", powr=3.0)
    method = catalog.load("methods", "criterion", sizes=Sizes(3, 4, 5), loss="pull")
    assert method.mined.loss.power == 2.0


def test_what_is_broken_is_told_when_it_is_used(installed: Path) -> None:
    with pytest.raises(OodmlError, match=r"'broken' of beside_broken 1.5 cannot be imported .*out"):
        oodml.load("losses", "broken")
    with pytest.raises(OodmlError, match=r"'gone' of beside_broken 1.5 .* 'no_such_package:Met"):
        catalog.find("methods", "gone")


@pytest.mark.parametrize("code", ["import oodml", "sys.argv = ['oodml', '--help']; main()"])
def test_what_is_broken_breaks_nothing_else(installed: Path, code: str) -> None:
    code = f"import sys; sys.path.insert(0, {str(installed)!r})\nfrom oodml.cli import main\n{code}"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()


def test_no_package_hides_a_name_of_ours(installed: Path) -> None:
    offers = "[oodml.miners]\nsemihard = beside_oodml:Pull\nnot.a-name = beside_oodml:Pull\n"
    (installed / "beside_oodml-1.5.dist-info" / "entry_points.txt").write_text(offers)
    with pytest.warns(UserWarning, match="oodml.miners is ignored") as told:
        found = catalog.find("miners", "semihard")
    assert found.__module__ == "oodml.miners.semihard"
    assert "not.a-name" not in oodml.names("miners")
    messages = sorted(str(warning.message) for warning in told)
    assert messages == [
        "'not.a-name' of beside_oodml 1.5 in oodml.miners is ignored: "
        "a name is one word, as in Python",
        "'semihard' of beside_oodml 1.5 in oodml.miners is ignored: oodml itself has that name",
    ]


def test_folders_become_importable_behind_what_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_losses_of_a_test.py").write_text(LOSS)
    (tmp_path / "torch.py").write_text("raise RuntimeError('hidden')")
    catalog.make_importable(tmp_path, tmp_path)
    assert sys.path.count(str(tmp_path)) == 1
    assert oodml.load("losses", "own_losses_of_a_test:Pull").power == 2.0


def test_a_module_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "badly_written.py").write_text("def broken(:")
    with pytest.raises(OodmlError, match="cannot import 'badly_written:Loss' .*SyntaxError"):
        catalog.find("losses", "badly_written:Loss")
