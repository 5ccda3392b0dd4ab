"""Settings that contradict each other are told with their place, before anything is loaded."""

from pathlib import Path

import pytest

from oodml.errors import OodmlError
from oodml.study.spec.consistency import validation_metrics
from oodml.study.spec.study_file import parse_study

FINETUNE = {"backbone": "small", "mode": "finetune"}


def parse(model: dict, train: dict, method: str = "margin", **options: object) -> None:
    own = {"method": method, "model": model, "train": train, **options}
    parse_study({"data": "glyphs", "methods": {"mine": own}}, Path("study.toml"))


@pytest.mark.parametrize(
    ("model", "train", "message"),
    [
        ({}, {"warmup_epochs": 1}, 'warmup_epochs 1: in model.mode "head" the backbone always'),
        (FINETUNE, {"warmup_epochs": 5, "epochs": 5}, "the backbone would never train"),
        ({}, {"evaluate_every": 9, "epochs": 8}, "one epoch to choose from"),
        ({}, {"batch_size": 112, "per_class": 3}, "no multiple of .* 3; take 111 or 114"),
        ({}, {"batch_size": 6, "per_class": 4}, "holds fewer than two classes of .* 4"),
        ({}, {"precision": "bf16"}, 'which model.mode "head" has none of'),
        ({"freeze_batch_norm": False}, {}, "freeze_batch_norm = false: in model.mode"),
        ({"input_cache": 64}, {}, "input_cache 64: in model.mode .* read once"),
        ({}, {"select": "queries"}, "unknown metric 'queries'"),
        ({}, {"select": "recall@1+map@100"}, "unknown metric 'map@100'. Did you mean 'map@1000'"),
    ],
)
def test_it_is_refused(model: dict, train: dict, message: str) -> None:
    with pytest.raises(OodmlError, match=f"study.toml: methods.mine: .*{message}"):
        parse(model, train)


def test_what_a_method_cannot_do_is_refused() -> None:
    with pytest.raises(OodmlError, match="model.views 1: the method compares 2 views"):
        parse({"views": 1}, {}, "diva")
    with pytest.raises(OodmlError, match="normalize = false: the method has a head of its own"):
        parse({"normalize": False, "dim": 16}, {}, "diva")
    with pytest.raises(OodmlError, match="methods.mine: .* multiple of 4"):
        parse({"dim": 30}, {}, "diva")


def test_what_goes_together_is_not_refused() -> None:
    parse({}, {"select": "recall@1+map@1000", "epochs": 2, "evaluate_every": 2})
    parse(FINETUNE | {"freeze_batch_norm": False, "views": 1}, {"precision": "bf16"}, "diva")
    parse(FINETUNE, {"warmup_epochs": 1, "epochs": 2, "batch_size": 12, "per_class": 3})
    parse({"normalize": False}, {"epochs": 0})
    parse({"views": 1}, {"batch_size": 8, "per_class": 8}, "frozen")


def test_metrics_to_select_by() -> None:
    assert {"recall@1", "map@r", "map@1000", "map"} <= set(validation_metrics())
