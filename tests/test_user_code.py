import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import pytest

from oodml.catalog import make_importable
from oodml.errors import OodmlError
from oodml.user_code import code_fingerprints, code_folders


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the import path with a package and a module that imports another."""
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
def test_every_file_of_a_package_is_hashed(lab: Path, edited: str) -> None:
    before = code_fingerprints("ownlab.losses:Loss")
    edit(lab / "ownlab" / f"{edited}.py")
    after = code_fingerprints("ownlab.losses:Loss")
    assert set(before) == set(after) == {"ownlab.losses:Loss"}
    assert before != after


def test_imported_user_modules_are_hashed(lab: Path) -> None:
    before = code_fingerprints("own_single:Loss")
    edit(lab / "ownlab" / "losses.py")
    assert code_fingerprints("own_single:Loss") == before
    edit(lab / "own_helper.py")
    assert code_fingerprints("own_single:Loss") != before


def test_moving_the_source_changes_nothing(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = code_fingerprints("ownlab.losses:Loss", "own_single:Loss")
    moved = lab.parent / "moved"
    moved.mkdir()
    for name in ("ownlab", "own_single.py", "own_helper.py"):
        (lab / name).rename(moved / name)
    monkeypatch.setattr(sys, "path", [*sys.path[:-1], str(moved)])
    assert code_fingerprints("ownlab.losses:Loss", "own_single:Loss") == here


def test_a_package_without_init_is_hashed(lab: Path) -> None:
    (lab / "ownlab" / "__init__.py").unlink()
    before = code_fingerprints("ownlab.losses:Loss")
    edit(lab / "ownlab" / "nets.py")
    assert code_fingerprints("ownlab.losses:Loss") != before
    assert code_folders("ownlab.losses:Loss") == [str(lab)]


def test_names_are_found_at_any_depth_of_the_options(lab: Path) -> None:
    options = {"loss": "ownlab.losses:Loss", "deep": [{"miner": "own_single:Miner"}, ("x", 1)]}
    assert set(code_fingerprints("criterion", options)) == {
        "ownlab.losses:Loss",
        "own_single:Miner",
    }
    assert code_folders(options) == [str(lab)]


def test_names_that_are_not_user_code() -> None:
    names = ["margin", "pml.SupConLoss", "oodml.losses.margin:Loss", "no_such_module:Loss", "a:b/c"]
    assert code_fingerprints(names) == {}
    assert code_folders(names) == []


def test_installed_code_is_identified_by_its_version() -> None:
    import timm

    assert code_fingerprints("timm.loss:Loss") == {"timm.loss:Loss": f"timm {timm.__version__}"}
    assert code_folders("timm.loss:Loss") == []
    (python,) = code_fingerprints("collections:Counter").values()
    assert python == f"python {sys.version_info.major}.{sys.version_info.minor}"


def test_an_entry_point_is_identified_by_its_source(lab: Path) -> None:
    info = lab / "ownlab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ownlab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[oodml.losses]\nown_pull = ownlab.losses:Loss\n")
    make_importable(lab / "ownlab")  # a changed import path refreshes the entry points
    before = code_fingerprints({"loss": "own_pull"})
    assert before == {"own_pull": code_fingerprints("ownlab.losses:Loss")["ownlab.losses:Loss"]}
    edit(lab / "ownlab" / "losses.py")
    assert code_fingerprints({"loss": "own_pull"}) != before


@pytest.mark.parametrize("module", ["own_fast", "ownlab/fast"])
def test_a_compiled_module_is_hashed(lab: Path, module: str) -> None:
    file = lab / f"{module}{EXTENSION_SUFFIXES[0]}"
    file.write_bytes(b"\x7fELF\0 one")
    make_importable(lab)
    name = f"{module.replace('/', '.')}:Loss"
    before = code_fingerprints(name)
    assert before[name]
    assert code_folders(name) == [str(lab)]
    file.write_bytes(b"\x7fELF\0 two")
    assert code_fingerprints(name) != before
    assert code_fingerprints("math:sqrt", "_json:scanner").keys() == {"math:sqrt", "_json:scanner"}
    assert code_folders("math:sqrt", "_json:scanner", "builtins:dict") == []


SCRIPT = """
import sys
sys.path.insert(0, {lab!r})
from oodml.user_code import class_fingerprints, code_fingerprints, code_folders

class Loss: {body}

def later():
    import own_helper

name = "__main__:Loss"
print(code_fingerprints(name)[name], class_fingerprints(Loss)[name])
print(code_folders("__main__:Loss")[-1])
"""


def test_a_script_is_identified_by_its_source(lab: Path) -> None:
    folder = lab / "scripts"
    folder.mkdir()

    def fingerprint(body: str, *, module: bool = False) -> str:
        (folder / "own_script.py").write_text(SCRIPT.format(lab=str(lab), body=body))
        script = ["-m", "own_script"] if module else ["own_script.py"]
        command = [sys.executable, *script]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        (first, second), (import_folder,) = map(str.split, done.stdout.splitlines())
        assert first == second
        assert import_folder == str(folder)
        return first

    before = fingerprint("pass")
    assert fingerprint("pass") == before
    assert fingerprint("name = 1") != before
    edit(lab / "own_helper.py")
    assert fingerprint("pass") != before
    as_module = fingerprint("pass", module=True)
    assert fingerprint("name = 1", module=True) != as_module


def test_a_session_without_source_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    with pytest.raises(OodmlError, match="interactive session"):
        code_fingerprints({"loss": "__main__:Loss"})
