"""Contradictory settings are refused with their location, before anything is loaded."""

from pathlib import Path

import pytest

from oodml.errors import OodmlError
from oodml.study.spec.consistency import validation_metrics
from oodml.study.spec.study_file import parse_study

FINETUNE = {"backbone": "small", "mode": "finetune"}


def parse(model: dict, train: dict, method: str = "margin", **options: object) -> None:
    own = {"method": method, "model": model, "train": train, **options}
    parse_study({"data": "glyphs", "methods": {"mine": own}}, Path("study.toml"))


def refusal(model: dict, train: dict, method: str = "margin") -> OodmlError:
    with pytest.raises(OodmlError) as raised:
        parse(model, train, method)
    assert raised.value.location == "study.toml: methods.mine"
    return raised.value


@pytest.mark.parametrize(
    ("model", "train", "word"),
    [
        ({}, {"warmup_epochs": 1}, "warmup_epochs"),
        (FINETUNE, {"warmup_epochs": 5, "epochs": 5}, "warmup_epochs"),
        ({}, {"evaluate_every": 9, "epochs": 8}, "evaluate_every"),
        ({}, {"batch_size": 112, "per_class": 3}, "111 or 114"),
        ({}, {"batch_size": 6, "per_class": 4}, "per_class 4"),
        ({}, {"precision": "bf16"}, "precision"),
        ({"freeze_batch_norm": False}, {}, "freeze_batch_norm"),
        ({"input_cache": 64}, {}, "input_cache"),
        ({}, {"select": "queries"}, "'queries'"),
        ({}, {"select": "recall@1+map@100"}, "'map@1000'"),
    ],
)
def test_contradictions_are_refused(model: dict, train: dict, word: str) -> None:
    assert word in str(refusal(model, train))


def test_what_a_method_does_not_support_is_refused() -> None:
    assert "views" in str(refusal({"views": 1}, {}, "diva"))
    assert "normalize" in str(refusal({"normalize": False, "dim": 16}, {}, "diva"))
    assert "30" in str(refusal({"dim": 30}, {}, "diva"))


def test_consistent_settings_are_accepted() -> None:
    parse({}, {"select": "recall@1+map@1000", "epochs": 2, "evaluate_every": 2})
    parse(FINETUNE | {"freeze_batch_norm": False, "views": 1}, {"precision": "bf16"}, "diva")
    parse(FINETUNE, {"warmup_epochs": 1, "epochs": 2, "batch_size": 12, "per_class": 3})
    parse({"normalize": False}, {"epochs": 0})
    parse({"views": 1}, {"batch_size": 8, "per_class": 8}, "frozen")


def test_a_method_is_built_once_per_combination(monkeypatch: pytest.MonkeyPatch) -> None:
    from oodml.methods.margin import Method

    built = []
    init = Method.__init__

    def counted(self: Method, *arguments: object, **options: object) -> None:
        built.append(options)
        init(self, *arguments, **options)

    counted.__signature__ = __import__("inspect").signature(init)  # type: ignore[attr-defined]
    counted.__annotations__ = init.__annotations__
    monkeypatch.setattr(Method, "__init__", counted)
    parse({}, {}, beta=[0.6, 1.2])
    assert [options["beta"] for options in built] == [0.6, 1.2]


def test_metrics_that_can_select_an_epoch() -> None:
    assert {"recall@1", "map@r", "map@1000", "map"} <= set(validation_metrics())
    assert not {"queries", "singletons"} & set(validation_metrics())
