"""The wheel contains the whole package and runs without the source tree."""

import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow  # builds a package, which downloads the build backend


def run(*words: object, cwd: Path) -> str:
    finished = subprocess.run(list(map(str, words)), cwd=cwd, capture_output=True, text=True)
    assert not finished.returncode, finished.stderr[-3000:]
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT, cwd=folder)
    (file,) = folder.glob("*.whl")
    return file


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        (metadata,) = (name for name in packed if name.endswith("METADATA"))
        text = archive.read(metadata).decode()
    source = ROOT / "src"
    files = (path for path in (source / "oodml").rglob("*") if path.is_file())
    expected = {str(path.relative_to(source)) for path in files if "__pycache__" not in path.parts}
    assert {name for name in packed if name.startswith("oodml/")} == expected
    for field in (
        "License-Expression",
        "Requires-Python",
        "Description-Content-Type",
    ):
        assert f"\n{field}:" in text


def test_the_wheel_runs_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """The environment sees the installed dependencies, but not the source tree."""
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path)
    (Path(site.strip()) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    run(python, "-m", "pip", "install", "-q", "--no-deps", wheel, cwd=tmp_path)
    code = "import oodml; print(oodml.__file__); print(oodml.open_images('glyphs', few=(9, 8)))"
    where, images = run(python, "-c", code, cwd=tmp_path).splitlines()
    assert where.startswith(site.strip())
    assert "72 images" in images
    program = python.with_name("oodml")
    assert run(program, "--version", cwd=tmp_path).strip()
    vectors = "--model", "pixels", "--out", "glyphs.npz"
    run(program, "embed", "--data", "glyphs", *vectors, cwd=tmp_path)
    run(program, "evaluate", "glyphs.npz", "--retrieval-only", cwd=tmp_path)
