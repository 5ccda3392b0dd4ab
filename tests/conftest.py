"""Shapes and types of every annotated function are checked while the tests run."""

import lzma
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from jaxtyping import install_import_hook

import tests.typecheck  # noqa: F401  it is resolved by name when the first module is checked

SHIFT = Path(__file__).parents[1] / "src" / "oodml" / "shift"
# Millions of small steps, each some hundred times slower if checked.
UNCHECKED = "published_format"
CHECKED = [
    *("adaptation", "analysis", "backbones", "decisions", "distributed", "embedding", "evaluate"),
    *("images", "losses", "methods", "miners", "model", "results", "training", "vectors"),
    *(f"shift.{path.stem}" for path in sorted(SHIFT.glob("*.py")) if path.stem != UNCHECKED),
]
install_import_hook([f"oodml.{part}" for part in CHECKED], "tests.typecheck.checked")

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the values computed by the original code; see tests/reference/README.md."""
    folder = tmp_path_factory.mktemp("original") / "reference"
    shutil.copytree(REFERENCE, folder)
    for path in folder.glob("*.xz"):
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
    return folder


@pytest.fixture(autouse=True)
def _temporary_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep the tests out of the user's cache."""
    monkeypatch.setenv("OODML_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A head without processors for runs, and two nodes with one each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    root = str(Path(__file__).parents[1])
    paths = [root, str(Path(root) / "src"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster, nodes
    cluster.shutdown()
