"""The check finds what is broken in a thing of the user's, and says what to do."""

import sys
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from oodml.cli import app
from oodml.contract import Finding, check, kind_of
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
    """A module with one thing; gives its import path."""
    name = f"own_{folder.name}"
    text = textwrap.dedent(HEAD + GOOD[kind][0].replace("BODY", body))
    (folder / f"{name}.py").write_text(text)
    return f"{name}:{'thing' if kind in ('backbones', 'datasets') else 'Thing'}"


def found(path: str, kind: str) -> dict[str, Finding]:
    return {finding.promise: finding for finding in check(path, kind)}


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_thing_keeps_every_promise(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = write(tmp_path, kind, GOOD[kind][1])
    assert kind_of(path) == kind
    findings = check(path)
    assert [finding for finding in findings if finding.fails] == []
    assert sum(finding.mark == "✓" for finding in findings) > len(findings) / 2


BROKEN = [
    ("losses", "return (gaps * same).mean().detach()", "gradient reaches the embeddings"),
    ("losses", "return -self.weight * (gaps * same).mean()", ""),
    ("losses", "return (gaps * same).sum(1)", "is one finite number"),
    ("losses", "return (gaps * same).sum() / (1 - same).sum()", "for one class, singletons"),
    ("losses", "return (gaps * same).sqrt().mean()", "long, zero, equal and opposite"),
    ("losses", "return (gaps * same)[0].mean()", "order of the rows does not matter"),
    ("losses", "return (gaps * same).mean() * torch.rand(())", "same twice"),
    ("losses", "embeddings.data.mul_(2); return (gaps * same).mean()", "are not changed"),
    ("miners", "return torch.stack([a, p, p], 1)", "promised relation"),
    ("miners", "return torch.stack([a, p], 1)", "promised relation"),
    ("miners", "return torch.zeros(0, 3, dtype=torch.int64)", "finds nothing where"),
    (
        "miners",
        """other = labels[:, None] != labels
            n = (other * torch.rand(other.shape)).argmax(1)[a]
            return torch.stack([a, p, n], 1)[other[a].any(1)]""",
        "The generator decides",
    ),
    ("methods", 'return {"x": (x.detach() * self.scale).sum()}', "change the model"),
    ("methods", 'return {"x": (x * float("nan")).sum()}', "keep every loss term finite"),
    ("methods", 'return {"x": (x * torch.randn(())).sum()}', ""),
    (
        "methods",
        """return {"x": (x @ x.T).square().mean()}
        def parameter_groups(self, lr):
            return []""",
        "hold every parameter once",
    ),
    (
        "methods",
        """self.past = getattr(self, "past", None) or iter(range(1, 99))
            return {"x": (x @ x.T).square().mean() * next(self.past)}""",
        "goes on from a checkpoint",
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
        "twice the same",
    ),
    ("datasets", "return names", "two classes or more"),
    (
        "datasets",
        PIXELS.replace("default_rng(0)", "default_rng()")
        + 'return ImageSet("noise", ids, names, pixels=pixels)',
        "Opened twice",
    ),
    (
        "datasets",
        PIXELS + 'return ImageSet("noise", ids, np.arange(12) // 4, pixels=pixels)',
        "are texts",
    ),
]


@pytest.mark.parametrize(("kind", "body", "promise"), BROKEN)
def test_a_broken_promise_is_found(
    kind: str, body: str, promise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    findings = found(write(tmp_path, kind, body), kind)
    broken = {name: finding for name, finding in findings.items() if finding.fails}
    if not promise:  # it is allowed: a sign or a global seed is the method's own
        assert broken == {}
        return
    told = [finding for name, finding in broken.items() if promise in name]
    assert told, findings
    assert told[0].found


def test_what_is_only_slow_fails_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    body = "return (gaps * same).mean() if (gaps > 0).any() else 0 * embeddings.sum()"
    findings = check(write(tmp_path, "losses", body))
    (advice,) = [finding for finding in findings if finding.mark == "!"]
    assert "waits for the GPU" in advice.promise
    assert "an `if` on a tensor" in advice.found


def invoke(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["check", *map(str, words)], env={"COLUMNS": "160"})
    return result.exit_code, " ".join(result.output.split()) + str(result.exception or "")


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It finds modules in the current folder, takes options, and ends with 1 if one is broken."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    path = write(tmp_path, "losses", "return self.weight * (gaps * same).mean()")
    code, shown = invoke(path, "--option", "weight=0.5")
    assert code == 0
    assert "every promise is kept" in shown
    code, shown = invoke(path, "--option", "weight=-1.0")
    assert code == 0
    code, shown = invoke(path, "--option", "weight=nan")
    assert code == 1
    assert "✗ The loss of a batch is one finite number" in shown
    assert "Guard divisions" in shown
    code, shown = invoke(path, "--option", "wieght=1")
    assert "Did you mean 'weight'" in shown
    code, shown = invoke(path, "--kind", "loss")
    assert "Did you mean 'losses'" in shown


def test_names_of_the_catalogue(tmp_path: Path) -> None:
    assert kind_of("semihard") == "miners"
    with pytest.raises(OodmlError, match="there are losses and methods of that name; say --kind"):
        kind_of("margin")
    with pytest.raises(OodmlError, match="it is not known; say --kind"):
        kind_of("margn")
    with pytest.raises(OodmlError, match="not clear what it is; say --kind"):
        kind_of("collections:Counter")
    with pytest.raises(OodmlError, match=r"cannot be made without root; give --option root=…"):
        check("folder")
    root = write_folder(squares(), tmp_path / "photos", superclasses=True)
    assert not any(finding.fails for finding in check("folder", options={"root": str(root)}))
