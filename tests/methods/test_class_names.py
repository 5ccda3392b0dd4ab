from pathlib import Path

import numpy as np
import pytest
import torch

import oodml
from oodml.methods._base import Sizes
from oodml.methods._mined import embed_class_names, trigram_counts
from oodml.methods.criterion import Method

NAMES = ("red fox", "red wolf", "oak")


def lengths(names: list[str]) -> np.ndarray:
    """A user's text model."""
    return np.array([[len(name), 1.0] for name in names])


def test_trigrams_are_counted() -> None:
    counts = trigram_counts(["aaaa", "aa"])
    text = {"  a": (1, 1), " aa": (1, 1), "aaa": (2, 0), "aa ": (1, 1)}
    assert counts.T.tolist() == [list(map(float, text[part])) for part in sorted(text)]
    similar = torch.corrcoef(trigram_counts(NAMES))
    assert similar[0, 1] > similar[0, 2]


def test_a_text_model_and_a_file(tmp_path: Path) -> None:
    model = embed_class_names(NAMES, "tests.methods.test_class_names:lengths")
    assert model is not None
    assert model[:, 0].tolist() == [7, 8, 3]
    classes = np.array([*NAMES, "oak"])
    file = tmp_path / "names.npz"
    oodml.VectorSet(np.eye(4, 3), classes).save(file)
    stored = embed_class_names(NAMES, str(file))
    assert stored is not None
    assert stored[2].tolist() == [0, 0, 0.5]
    with pytest.raises(oodml.OodmlError) as error:
        embed_class_names((*NAMES, "elm"), str(file))
    assert error.value.given == ["elm"]


def test_the_method_passes_its_class_names_to_the_loss() -> None:
    method = Method(Sizes(3, 4, 5, NAMES), "language")
    unit = torch.nn.functional.normalize(trigram_counts(NAMES), dim=1)
    torch.testing.assert_close(method.mined[0].loss.cosines, unit @ unit.T)
    assert torch.equal(Method(Sizes(3, 4, 5), "language").mined[0].loss.cosines, torch.eye(3))
