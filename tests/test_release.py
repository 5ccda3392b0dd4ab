"""Files of a release: citation, container, and types of the public interface."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import oodml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def test_one_semantic_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", oodml.__version__)
    assert PROJECT["version"] == oodml.__version__
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {oodml.__version__}\n" in citation
    assert f"## {oodml.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_container_runs_as_a_user_and_installs_this_package() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    steps = [line.split()[0] for line in lines if re.match(r"[A-Z]+ ", line)]
    assert steps[0] == "FROM"
    assert {"USER", "ENTRYPOINT", "WORKDIR"} <= set(steps)
    base = next(line for line in lines if line.startswith("FROM"))
    tag = base.partition("python:")[2].partition("-")[0]
    assert f"Programming Language :: Python :: {tag}" in PROJECT["classifiers"]
    user = next(line.split()[1] for line in lines if line.startswith("USER"))
    assert user not in ("root", "0")


@pytest.mark.slow
def test_a_sample_of_user_code_is_typed() -> None:
    pytest.importorskip("mypy")
    sample = ROOT / "tests" / "typing" / "user_code.py"
    command = [sys.executable, "-m", "mypy", "--strict", str(sample)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stdout
