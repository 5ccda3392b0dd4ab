import pytest
import torch

from oodml.adaptation import AdaptSettings
from oodml.adaptation.images import adapt_network, finetune_on_support
from oodml.adaptation.split import adapt_split, support_rows
from oodml.errors import OodmlError
from oodml.model import Embedder
from oodml.shift.splits import Episode

from .test_images import model, stripes

__all__ = ["model"]

FAST = AdaptSettings(iterations=20, lr=1e-2, batch_size=12, metrics=("recall@1",))
TEST = stripes(7, 0, noise=90.0)
EPISODES = tuple(
    Episode({name: tuple(TEST.ids[TEST.classes == name][first : first + 3]) for name in "abcd"})
    for first in (0, 3)
)
ROWS = support_rows(TEST, EPISODES)


@pytest.mark.parametrize("layers", ["last", "all"])
def test_only_the_chosen_layers_change(model: Embedder, layers: str) -> None:
    settings = FAST.model_copy(update={"layers": layers})
    before = {key: value.clone() for key, value in model.state_dict().items()}
    adapted = finetune_on_support(model, TEST, ROWS[0], settings, 0, 0, torch.device("cpu"))
    after = model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    changed = {
        key.split(".")[0]
        for key, value in adapted.state_dict().items()
        if not torch.equal(value, before[key])
    }
    assert changed == ({"head"} if layers == "last" else {"head", "backbone"})


def test_the_same_seed_gives_the_same_metrics(model: Embedder) -> None:
    first, second = (adapt_network(model, TEST, ROWS, FAST, seed=3, device="cpu") for _ in range(2))
    assert first == second


def test_adapting_all_layers_requires_the_model(model: Embedder) -> None:
    whole = FAST.model_copy(update={"layers": "all", "iterations": 2})
    rows = list(adapt_split(TEST, lambda *_: None, model.head, EPISODES, whole, 3, 0, model))
    assert [row["stage"] for row in rows] == ["before", "before", "after", "after"]
    with pytest.raises(OodmlError, match="layers"):
        list(adapt_split(TEST, lambda *_: None, model.head, EPISODES, whole, 3, 0))


def test_closed_forms_cannot_adapt_a_network(model: Embedder) -> None:
    settings = FAST.model_copy(update={"objective": "linear"})
    with pytest.raises(OodmlError, match="linear"):
        adapt_network(model, TEST, ROWS, settings, device="cpu")
