"""`oodml check` finds what is wrong with a user's part, and how to fix it."""

import sys
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from oodml.checks import CheckResult, check, kind_of
from oodml.cli import app
from oodml.errors import OodmlError
from tests.images.samples import squares, write_folder

HEAD = """
    import numpy as np
    import torch
    from torch import nn
    from oodml.backbones import Backbone
    from oodml.images.image_set import ImageSet
    from oodml.methods._base import BaseMethod
"""
LOSS = '''
    class Thing(nn.Module):
        """Pulls pairs together. weight: of the pull."""
        def __init__(self, weight: float = 1.0):
            super().__init__()
            self.weight = weight
        def forward(self, embeddings, labels):
            gaps = (embeddings[:, None] - embeddings).square().sum(-1)
            same = (labels[:, None] == labels).float()
            BODY
'''
MINER = '''
    class Thing:
        """Every pair with the next row of another class."""
        def __call__(self, embeddings, labels, generator):
            same = (labels[:, None] == labels) & ~torch.eye(len(labels), dtype=torch.bool)
            a, p = same.nonzero().unbind(1)
            BODY
'''
METHOD = '''
    class Thing(BaseMethod):
        """Spreads embeddings. weight: of the term."""
        def __init__(self, sizes, weight: float = 1.0):
            super().__init__(sizes)
            self.weight = weight
            self.scale = nn.Parameter(torch.ones(()))
        def terms(self, batch):
            x = batch.embeddings
            BODY
'''
BACKBONE = '''
    def thing(weights=None) -> Backbone:
        """One convolution."""
        BODY
'''
DATASET = '''
    def thing() -> ImageSet:
        """Noise."""
        names = np.repeat(["a", "b", "c"], 4)
        ids = np.array([f"{i}" for i in range(12)])
        BODY
'''
PIXELS = "pixels = np.random.default_rng(0).integers(0, 255, (12, 8, 8), dtype=np.uint8); "
GOOD = {
    "losses": (LOSS, "return self.weight * (gaps * same).mean()"),
    "miners": (
        MINER,
        """other = labels[:, None] != labels
            n = other.int().argmax(1)[a]
            return torch.stack([a, p, n], 1)[other[a].any(1)]""",
    ),
    "methods": (METHOD, 'return {"spread": self.scale * (x @ x.T).square().mean()}'),
    "backbones": (BACKBONE, "return Backbone(nn.Conv2d(3, 5, 4, 4), 5, 16)"),
    "datasets": (DATASET, PIXELS + 'return ImageSet("noise", ids, names, pixels=pixels)'),
}


def write(folder: Path, kind: str, body: str) -> str:
    """Write a module with one part and return its import path."""
    name = f"own_{folder.name}"
    text = textwrap.dedent(HEAD + GOOD[kind][0].replace("BODY", body))
    (folder / f"{name}.py").write_text(text)
    return f"{name}:{'thing' if kind in ('backbones', 'datasets') else 'Thing'}"


def check_by_requirement(path: str, kind: str) -> dict[str, CheckResult]:
    return {result.requirement: result for result in check(path, kind)}


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_part_meets_every_requirement(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = write(tmp_path, kind, GOOD[kind][1])
    assert kind_of(path) == kind
    results = check(path)
    assert [result for result in results if result.failed] == []
    assert sum(result.mark == "✓" for result in results) > len(results) / 2


BROKEN = [
    (
        "losses",
        """return (gaps * same).mean()
        def forward(self, embeddings, labels, triplets=None):
            if triplets is not None:
                raise NotImplementedError("no triplets yet")
            return embeddings.square().mean()""",
        "Without triplets",
    ),
    ("losses", "return (gaps * same).mean().detach()", "receive a gradient"),
    ("losses", "return -self.weight * (gaps * same).mean()", ""),
    ("losses", "return (gaps * same).sum(1)", "is one finite number"),
    ("losses", "return (gaps * same).sum() / (1 - same).sum()", "for one class, singletons"),
    ("losses", "return (gaps * same).sqrt().mean()", "one finite number"),
    (
        "losses",
        "return ((gaps + torch.eye(len(gaps))).sqrt() * same).mean()",
        "long, zero, equal, and opposite",
    ),
    ("losses", "return (gaps * same)[0].mean()", "order of the rows does not matter"),
    ("losses", "return (gaps * same).mean() * torch.rand(())", "same value"),
    ("losses", "embeddings.data.mul_(2); return (gaps * same).mean()", "are not modified"),
    ("miners", "return torch.stack([a, p, p], 1)", "declared relation"),
    ("miners", "return torch.stack([a, p], 1)", "declared relation"),
    ("miners", "return torch.zeros(0, 3, dtype=torch.int64)", "returns no triplets where"),
    (
        "miners",
        """other = labels[:, None] != labels
            n = (other * torch.rand(other.shape)).argmax(1)[a]
            return torch.stack([a, p, n], 1)[other[a].any(1)]""",
        "only source of randomness",
    ),
    ("methods", 'return {"x": (x.detach() * self.scale).sum()}', "change the model"),
    ("methods", 'return {"x": (x * float("nan")).sum()}', "keep every loss term finite"),
    ("methods", 'return {"x": (x * torch.randn(())).sum()}', ""),
    (
        "methods",
        """return {"x": (x @ x.T).square().mean()}
        def parameter_groups(self, lr):
            return []""",
        "contain every parameter once",
    ),
    (
        "methods",
        """self.past = getattr(self, "past", None) or iter(range(1, 99))
            return {"x": (x @ x.T).square().mean() * next(self.past)}""",
        "resumed from a checkpoint",
    ),
    ("backbones", "return Backbone(nn.Conv2d(3, 5, 4, 4), 6, 16)", "features rows columns"),
    ("backbones", "return nn.Conv2d(3, 5, 4, 4)", "features rows columns"),
    (
        "backbones",
        """return Backbone(nn.Conv2d(3, 5, 4, 4), 5, 16)
    good = thing
    def thing() -> Backbone:
        return good()""",
        "features rows columns",
    ),
    (
        "backbones",
        "return Backbone(nn.Sequential(nn.Conv2d(3, 5, 4, 4), nn.Dropout2d()).apply("
        "lambda m: setattr(m, 'train', lambda mode=True: m)), 5, 16)",
        "in a second pass",
    ),
    ("datasets", "return names", "two classes or more"),
    (
        "datasets",
        PIXELS.replace("default_rng(0)", "default_rng()")
        + 'return ImageSet("noise", ids, names, pixels=pixels)',
        "every time it is opened",
    ),
    (
        "datasets",
        PIXELS + 'return ImageSet("noise", ids, np.arange(12) // 4, pixels=pixels)',
        "are strings",
    ),
]


@pytest.mark.parametrize(("kind", "body", "requirement"), BROKEN)
def test_a_violation_is_found(
    kind: str, body: str, requirement: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    results = check_by_requirement(write(tmp_path, kind, body), kind)
    failed = {name: result for name, result in results.items() if result.failed}
    if not requirement:  # allowed: the sign of a loss, or the global generator in a method
        assert failed == {}
        return
    matching = [result for name, result in failed.items() if requirement in name]
    assert matching, results
    assert matching[0].problem


def test_after_a_basic_violation_nothing_else_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    body = "return (gaps * same).mean() * float('nan')"
    first, *others = check(write(tmp_path, "losses", body))
    assert first.failed
    assert {result.mark for result in others} == {"–"}
    assert all(first.requirement in result.problem for result in others)


def test_a_loss_may_take_no_triplets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    body = """return (gaps * same).mean()
        def forward(self, embeddings, labels, triplets: None = None):
            assert triplets is None
            return (embeddings @ embeddings.T).square().mean() * self.weight"""
    results = check_by_requirement(write(tmp_path, "losses", body), "losses")
    assert [result for result in results.values() if result.failed] == []
    (no_triplets,) = [result for name, result in results.items() if "Without triplets" in name]
    assert no_triplets.mark == "–"


def test_advice_fails_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    body = PIXELS + 'return ImageSet("noise", ids, names, superclasses=names, pixels=pixels)'
    results = check(write(tmp_path, "datasets", body))
    (advice,) = [result for result in results if result.mark == "!"]
    assert not advice.failed
    assert "superclass" in advice.problem


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["check", *map(str, arguments)], env={"COLUMNS": "160"})
    return result.exit_code, " ".join(result.output.split()) + str(result.exception or "")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It imports from the current folder, takes options, and exits with 1 on a violation."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    path = write(tmp_path, "losses", "return self.weight * (gaps * same).mean()")
    assert invoke(path, "--option", "weight=0.5")[0] == 0
    assert invoke(path, "--option", "weight=-1.0")[0] == 0
    code, output = invoke(path, "--option", "weight=nan")
    assert code == 1
    assert "✗ │ The loss of a batch is one finite number" in output
    assert "clamp" in output
    assert "Did you mean 'weight'" in invoke(path, "--option", "wieght=1")[1]
    assert "Did you mean 'losses'" in invoke(path, "--kind", "loss")[1]


def test_names_of_the_catalog(tmp_path: Path) -> None:
    assert kind_of("semihard") == "miners"
    with pytest.raises(OodmlError, match="--kind") as error:
        kind_of("margin")
    assert {"losses", "methods"} <= set(error.value.allowed)
    with pytest.raises(OodmlError, match="--kind") as error:
        kind_of("margn")
    assert error.value.given == "margn"
    with pytest.raises(OodmlError, match="--kind") as error:
        kind_of("collections:Counter")
    assert error.value.given == "collections:Counter"
    with pytest.raises(OodmlError, match="--option root=…") as error:
        check("folder")
    assert error.value.allowed == ("root",)
    root = write_folder(squares(), tmp_path / "photos", superclasses=True)
    assert not any(result.failed for result in check("folder", options={"root": str(root)}))


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("__call__(self, embeddings, labels, generator)", "miners"),
        ("forward(self, embeddings, labels, generator=None)", "losses"),
        ("forward(self, embeddings, labels, triplets=None, *, generator)", "losses"),
    ],
)
def test_a_miner_is_known_by_what_it_is_called_with(
    call: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{tmp_path.name}.py").write_text(f"class Thing:\n    def {call}: ...\n")
    assert kind_of(f"{tmp_path.name}:Thing") == kind
