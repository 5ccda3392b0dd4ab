"""The house holds: data flows one way, heavy imports stay inside, importing is cheap."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import oodml

SOURCE = Path(__file__).parents[1] / "src" / "oodml"
FILES = sorted(SOURCE.rglob("*.py"))

NOT_ALLOWED = {
    "errors.py": {"*"},
    "files.py": {"images", "vectors", "model", "study", "report"},
    "losses": {"datasets", "images", "vectors", "model", "training", "evaluate", "study", "shift"},
    "miners": {"datasets", "images", "vectors", "model", "training", "evaluate", "study", "shift"},
    "methods": {"datasets", "images", "training", "evaluate", "study", "shift", "report"},
    "evaluate": {"datasets", "images", "model", "training", "methods", "losses", "study", "report"},
    "shift": {"model", "training", "methods", "losses", "study", "report", "evaluate", "cli"},
    "training": {"evaluate", "study", "shift", "report", "datasets", "cli"},
    "datasets": {"model", "training", "evaluate", "study", "shift", "report", "cli"},
    "analysis": {"model", "training", "datasets", "report", "methods", "losses", "cli"},
    "study": {"report", "cli"},
    "contract": {"analysis", "evaluate", "report", "shift", "study", "cli"},
    "report": {"training", "methods", "losses", "miners", "cli"},
}
"""What a part of the house may not import, of oodml's own top-level parts."""


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_the_top(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from imported(node)


@pytest.mark.parametrize("part", sorted(NOT_ALLOWED))
def test_data_flows_one_way(part: str) -> None:
    place = SOURCE / part
    files = [place] if place.suffix else sorted(place.rglob("*.py"))
    assert files, part
    for file in files:
        for name in imported(ast.parse(file.read_text())):
            if name.startswith("oodml."):
                top = name.split(".")[1]
                banned = NOT_ALLOWED[part]
                assert "*" not in banned, f"{file} imports {name}"
                assert top not in banned, f"{file} imports {name}"


def test_only_report_draws() -> None:
    for file in FILES:
        if file.parent.name != "report":
            names = {name.split(".")[0] for name in imported(ast.parse(file.read_text()))}
            assert not names & {"matplotlib", "plotly"}, file


@pytest.mark.parametrize("heavy", ["faiss", "plotly", "matplotlib", "ray", "submitit", "umap"])
def test_heavy_imports_stay_inside_what_uses_them(heavy: str) -> None:
    for file in FILES:
        tops = {name.split(".")[0] for name in at_the_top(ast.parse(file.read_text()))}
        assert heavy not in tops, file


def test_the_command_imports_nothing_heavy() -> None:
    for file in (SOURCE / "cli").glob("*.py"):
        tops = {name.split(".")[0] for name in at_the_top(ast.parse(file.read_text()))}
        assert not tops & {"torch", "numpy", "pandas", "scipy", "timm", "PIL"}, file


def test_importing_oodml_is_cheap() -> None:
    code = "import sys, oodml; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_no_module_hides_a_public_name() -> None:
    parts = {file.stem for file in SOURCE.glob("*.py")}
    parts |= {folder.name for folder in SOURCE.iterdir() if folder.is_dir()}
    assert not parts & set(oodml.__all__)
    assert all(callable(getattr(oodml, name)) for name in oodml.__all__ if name != "__version__")


def test_files_stay_readable() -> None:
    long = {str(file): len(file.read_text().splitlines()) for file in FILES}
    assert {name: lines for name, lines in long.items() if lines > 300} == {}
