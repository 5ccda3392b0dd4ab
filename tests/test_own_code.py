import sys
from pathlib import Path

import pytest

from oodml.catalog import make_importable
from oodml.own_code import own_code, own_folders


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path: a package, and a module that imports another."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "ownlab").mkdir()
    for name in ("__init__", "losses", "nets"):
        (tmp_path / "ownlab" / f"{name}.py").write_text(f"NAME = {name!r}\n")
    (tmp_path / "own_single.py").write_text("import os, json, numpy\nfrom own_helper import two\n")
    (tmp_path / "own_helper.py").write_text("import own_single\n\ndef two(): return 2\n")
    make_importable(tmp_path)
    return tmp_path


def edit(file: Path) -> None:
    file.write_text(file.read_text() + "# another line\n")


@pytest.mark.parametrize("edited", ["__init__", "losses", "nets"])
def test_any_file_of_the_package_counts(lab: Path, edited: str) -> None:
    before = own_code("ownlab.losses:Loss")
    edit(lab / "ownlab" / f"{edited}.py")
    after = own_code("ownlab.losses:Loss")
    assert set(before) == set(after) == {"ownlab.losses:Loss"}
    assert before != after


def test_what_a_module_imports_of_ones_own_counts(lab: Path) -> None:
    before = own_code("own_single:Loss")
    edit(lab / "ownlab" / "losses.py")
    assert own_code("own_single:Loss") == before
    edit(lab / "own_helper.py")
    assert own_code("own_single:Loss") != before


def test_it_is_the_source_and_not_its_place(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = own_code("ownlab.losses:Loss", "own_single:Loss")
    moved = lab.parent / "moved"
    moved.mkdir()
    for name in ("ownlab", "own_single.py", "own_helper.py"):
        (lab / name).rename(moved / name)
    monkeypatch.setattr(sys, "path", [*sys.path[:-1], str(moved)])
    assert own_code("ownlab.losses:Loss", "own_single:Loss") == here


def test_a_package_without_init_counts(lab: Path) -> None:
    (lab / "ownlab" / "__init__.py").unlink()
    before = own_code("ownlab.losses:Loss")
    edit(lab / "ownlab" / "nets.py")
    assert own_code("ownlab.losses:Loss") != before
    assert own_folders("ownlab.losses:Loss") == [str(lab)]


def test_names_lie_anywhere_in_the_options(lab: Path) -> None:
    options = {"loss": "ownlab.losses:Loss", "deep": [{"miner": "own_single:Miner"}, ("x", 1)]}
    assert set(own_code("criterion", options)) == {"ownlab.losses:Loss", "own_single:Miner"}
    assert own_folders(options) == [str(lab)]


def test_what_is_not_ones_own() -> None:
    names = ["margin", "pml.SupConLoss", "oodml.losses.margin:Loss", "no_such_module:Loss", "a:b/c"]
    assert own_code(names) == {}
    assert own_folders(names) == []


def test_installed_code_counts_by_its_version() -> None:
    import timm

    assert own_code("timm.loss:Loss") == {"timm.loss:Loss": f"timm {timm.__version__}"}
    assert own_folders("timm.loss:Loss") == []
    (python,) = own_code("collections:Counter").values()
    assert python == f"python {sys.version_info.major}.{sys.version_info.minor}"


def test_an_entry_point_counts_by_its_source(lab: Path) -> None:
    info = lab / "ownlab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ownlab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[oodml.losses]\nown_pull = ownlab.losses:Loss\n")
    make_importable(lab / "ownlab")  # so that the offers are looked up anew
    before = own_code({"loss": "own_pull"})
    assert before == {"own_pull": own_code("ownlab.losses:Loss")["ownlab.losses:Loss"]}
    edit(lab / "ownlab" / "losses.py")
    assert own_code({"loss": "own_pull"}) != before
