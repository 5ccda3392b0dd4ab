"""Shapes and types of every annotated function are checked while the tests run."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401  it is looked up when the first module is checked

SHIFT = Path(__file__).parents[1] / "src" / "oodml" / "shift"
# A reader that takes millions of small steps, each some hundred times slower if checked.
UNCHECKED = "plain_pickle"
CHECKED = [
    *("adaptation", "analysis", "backbones", "contents", "embedding", "evaluate", "images"),
    *("loader", "losses", "methods", "miners", "model", "pixels", "processes", "sampler"),
    *("states", "training", "transforms", "vectors"),
    *(f"shift.{path.stem}" for path in sorted(SHIFT.glob("*.py")) if path.stem != UNCHECKED),
]
install_import_hook([f"oodml.{part}" for part in CHECKED], "tests.typecheck.checked")

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of values computed by the original code; absent on most machines."""
    if not REFERENCE.exists():
        pytest.skip("the reference values of the original code are not on this machine")
    return REFERENCE


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's cache out of the tests."""
    monkeypatch.setenv("OODML_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
