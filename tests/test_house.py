"""The structure of the package: who imports whom, what is heavy, and how long functions are."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import oodml
from oodml import catalog

SOURCE = Path(__file__).parents[1] / "src" / "oodml"

FLOORS = (
    {"memory_allocator", "errors", "lazy_torch", "progress", "shapes"},
    {"arrays", "devices", "distributed", "files", "hub", "miners", "ray_cluster"},
    {"label_names", "losses", "randomness", "results"},
    {"catalog", "study.folder", "study.tracking", "vector_columns"},
    {"backbones", "user_code", "vector_files"},
    {"images", "vectors"},
    {"datasets", "evaluate", "model", "shift"},
    {"analysis", "decisions", "methods", "model_input"},
    {"embedding", "training"},
    {"adaptation", "text_queries"},
    {"checks", "few_shot_adapters", "oodml", "share", "study.spec"},
    {"export", "report", "study.file", "study.plan"},
    {"study.prepare"},
    {"study.run_inputs"},
    {"study.run"},
    {"study.external"},
    {"study.workers"},
    {"study.search"},
    {"study.launch", "study.preview", "study.verification"},
    {"forecasting"},
    {"bulk", "try_images", "fit", "mteb"},
    {"cli"},
    {"api"},
    {"__main__"},
)
"""Every part of the package, from the foundation up. A part imports only from lower floors.

Parts are the modules and packages of oodml, and for `study` those inside it; "oodml" is the
package's own `__init__`, "study" only a folder.
"""
FORBIDDEN = {
    "losses": {"catalog", "images", "vectors", "results"},
    "miners": {"catalog", "losses"},
    "methods": {"datasets", "images", "evaluate", "shift", "results"},
    "evaluate": {"images", "losses", "model"},
    "shift": {"evaluate", "losses", "model"},
    "training": {"datasets", "evaluate", "shift"},
    "datasets": {"model", "evaluate", "shift"},
    "analysis": {"datasets", "images", "model"},
    "checks": {"analysis", "datasets", "evaluate", "shift"},
    "report": {"embedding", "losses", "methods", "miners", "model", "training"},
    "decisions": {"datasets", "losses", "model"},
    "results": {"arrays", "losses", "miners"},
}
"""What a part must not import although it is on a lower floor: losses know no datasets, metrics no
models, training no test classes, and the report evaluates nothing."""
MAX_BODY, TYPICAL_BODY = 50, 25
"""Lines of the body of a function without its docstring: of all functions, and of 95%."""


@cache
def trees() -> dict[str, ast.Module]:
    """The syntax tree of every module by its dotted name."""
    result = {}
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        result[name] = ast.parse(file.read_text(encoding="utf-8"))
    return result


def names_imported_by(tree: ast.AST) -> Iterator[str]:
    """All modules and names that code imports, lazy imports included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in trees() or node.module not in trees() else node.module


def packages_imported_at_the_top(tree: ast.Module) -> set[str]:
    statements = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return {name.split(".")[0] for node in statements for name in names_imported_by(node)}


@cache
def imports() -> dict[str, set[str]]:
    """The modules of oodml that each module imports."""
    return {
        module: {name for name in names_imported_by(tree) if name in trees()} - {module}
        for module, tree in trees().items()
        if module != "oodml"  # its names are loaded when they are used
    } | {"oodml": set()}


def part_of(module: str) -> str:
    names = module.split(".")
    if len(names) == 1:
        return "oodml"
    return ".".join(names[1:3]) if names[1] == "study" else names[1]


def test_every_part_has_a_floor() -> None:
    parts = {part_of(module) for module in trees()} - {"study"}
    listed = Counter(part for floor in FLOORS for part in floor)
    assert parts == set(listed)
    assert set(listed.values()) == {1}
    assert set(FORBIDDEN) <= parts


@pytest.mark.parametrize("part", sorted(part for floor in FLOORS for part in floor))
def test_parts_import_from_lower_floors(part: str) -> None:
    floors = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    for module in trees():
        for other in imports()[module] if part_of(module) == part else ():
            name = part_of(other)
            if name != part:
                assert floors[name] < floors[part], f"{module} imports {other}"
                assert name not in FORBIDDEN.get(part, ()), f"{module} imports {other}"


def test_modules_have_no_import_cycle() -> None:
    TopologicalSorter(imports()).prepare()  # raises CycleError with the cycle


def test_only_the_report_draws() -> None:
    for module, tree in trees().items():
        if part_of(module) != "report":
            packages = {name.split(".")[0] for name in names_imported_by(tree)}
            assert not packages & {"matplotlib", "plotly"}, module


@pytest.mark.parametrize("heavy", ["faiss", "plotly", "matplotlib", "ray", "submitit"])
def test_heavy_packages_are_imported_where_they_are_used(heavy: str) -> None:
    for module, tree in trees().items():
        assert heavy not in packages_imported_at_the_top(tree), module


def test_the_command_line_imports_nothing_heavy() -> None:
    for module, tree in trees().items():
        if part_of(module) == "cli":
            heavy = {"torch", "numpy", "pandas", "scipy", "timm", "PIL"}
            assert not packages_imported_at_the_top(tree) & heavy, module


def test_importing_oodml_is_cheap() -> None:
    code = "import sys, oodml; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_report_starts_without_torch() -> None:
    code = "import sys, oodml.report.write; print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"


def test_no_module_hides_a_public_name() -> None:
    modules = {module.split(".")[1] for module in trees() if "." in module}
    assert not modules & set(oodml.__all__)
    assert all(callable(getattr(oodml, name)) for name in oodml.__all__ if name != "__version__")


def test_classes_have_different_names() -> None:
    """Except those that the catalog finds by their name, such as `Loss`, and `Study`: the study
    file and the interface from Python are one concept."""
    classes = Counter(
        node.name
        for tree in trees().values()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    shared = {name for name, count in classes.items() if count > 1}
    assert shared <= {*catalog.KINDS.values(), "Study"}


def test_functions_are_short() -> None:
    lengths = {}
    for module, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = node.body[-1].end_lineno - body[0].lineno + 1 if body else 0
                lengths[f"{module}:{node.lineno} {node.name}"] = lines
    assert {name: lines for name, lines in lengths.items() if lines > MAX_BODY} == {}
    assert sorted(lengths.values())[int(0.95 * len(lengths))] <= TYPICAL_BODY
