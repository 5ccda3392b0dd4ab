from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oodml import catalog
from oodml.backbones import load_backbone
from oodml.embedding import embed
from oodml.errors import OodmlError
from oodml.methods._base import BaseMethod, Batch, Sizes
from oodml.model import Embedder, FinetuneSettings, HeadSettings, LinearHead
from oodml.randomness import isolated
from oodml.training.loop import History, train
from oodml.training.settings import TrainSettings
from oodml.training.sources import FeatureSource, ImageSource
from oodml.training.trainer import NonFiniteError
from tests.images.samples import squares

CPU = torch.device("cpu")


def features(views: int = 2) -> FeatureSource:
    images = squares()
    parts = [embed(images, "pixels", view=v, augmentation="gentle") for v in range(views)]
    return FeatureSource(
        torch.stack([torch.from_numpy(part.vectors) for part in parts]), images.labels
    )


def head_run(method: str = "margin", seed: int = 0, **options: Any) -> tuple[Embedder, History]:
    settings = HeadSettings(backbone="pixels", dim=8)
    with isolated(seed):
        model = Embedder(settings, LinearHead(768, 8))
        made = catalog.load("methods", method, sizes=Sizes(6, 8, 768))
    train_settings = TrainSettings(batch_size=12, **{"epochs": 3, **options})
    history = train(model, made, features(), train_settings, seed=seed, device=CPU)
    return model, history


def test_a_seed_fixes_every_bit() -> None:
    first, other = head_run()[0].head.state_dict(), head_run()[0].head.state_dict()
    assert all(torch.equal(first[key], other[key]) for key in first)
    different = head_run(seed=1)[0].head.state_dict()
    assert not torch.equal(first["linear.weight"], different["linear.weight"])


class RepeatedRows(BaseMethod):
    """Uses every embedding 400 times, more than one thread of the CPU adds gradients for."""

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        generator, rows = batch.generator, batch.embeddings
        chosen = torch.randint(len(rows), (400 * len(rows),), generator=generator)
        weights = torch.rand(len(chosen), rows.shape[1], generator=generator)
        return {"repeated": (rows[chosen] * weights).square().mean()}


def test_a_seed_fixes_every_bit_with_several_threads() -> None:
    threads, enabled = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    method = f"{__name__}:RepeatedRows"
    try:
        torch.set_num_threads(4)
        weights = [head_run(method)[0].head.state_dict()["linear.weight"] for _ in range(3)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(weights[0], other) for other in weights[1:])
    assert torch.are_deterministic_algorithms_enabled() == enabled


def test_training_does_not_touch_the_global_generator() -> None:
    state = torch.get_rng_state()
    head_run(epochs=1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("method", ["margin", "multisimilarity", "arcface", "proxy_anchor"])
def test_training_lowers_the_loss(method: str) -> None:
    _, history = head_run(method, epochs=8)
    (term,) = set(history.rows[0]) - {"epoch"}
    assert history.rows[-1][term] < history.rows[0][term]


def test_images_train_end_to_end() -> None:
    images = squares()
    settings = FinetuneSettings(backbone="small", dim=8, image_size=24)
    with isolated(0):
        model = Embedder(settings, LinearHead(96, 8), load_backbone("small"))
        method = catalog.load("methods", "multisimilarity", sizes=Sizes(6, 8, 96))
        assert model.require_backbone().features == 96
    before = {key: value.clone() for key, value in model.state_dict().items()}
    source = ImageSource(images, images.labels, 24, "gentle")
    options = TrainSettings(epochs=6, batch_size=24, per_class=4, lr=1e-3)
    history = train(model, method, source, options, seed=0, device=CPU)
    losses = [row["multisimilarity"] for row in history.rows]
    assert losses[-1] < 0.9 * losses[0]
    assert len(history.rows) == history.epoch == 6
    after = model.state_dict()
    assert not [key for key, value in before.items() if torch.equal(value, after[key])]


def test_two_views_of_an_image_differ() -> None:
    source = features(views=3)
    rows = np.arange(12)
    (batch,) = source.batches(iter([rows]), seed=0, n_views=2)
    assert not (batch.features[0] == batch.features[1]).all(dim=1).any()
    with pytest.raises(OodmlError, match="model.views"):
        next(features(views=1).batches(iter([rows]), seed=0, n_views=2))


def test_the_backbone_is_frozen_during_warmup() -> None:
    images = squares()
    settings = FinetuneSettings(backbone="small", dim=8, image_size=24)
    with isolated(0):
        model = Embedder(settings, LinearHead(96, 8), load_backbone("small"))
        method = catalog.load("methods", "margin", sizes=Sizes(6, 8, 96))
    before = {key: value.clone() for key, value in model.require_backbone().state_dict().items()}
    head = model.head.linear.weight.clone()
    source = ImageSource(images, images.labels, 24, "gentle")
    options = TrainSettings(epochs=1, warmup_epochs=1, batch_size=12, lr=1e-2)
    train(model, method, source, options, seed=0, device=CPU)
    assert all(
        torch.equal(value, before[k]) for k, value in model.require_backbone().state_dict().items()
    )
    assert not torch.equal(model.head.linear.weight, head)


def test_the_best_validation_epoch_is_restored() -> None:
    scores = iter([0.3, 0.9, 0.5, 0.9])
    states: list[Tensor] = []
    settings = HeadSettings(backbone="pixels", dim=8)
    model = Embedder(settings, LinearHead(768, 8))

    def validate() -> dict[str, float]:
        states.append(model.head.linear.weight.detach().clone())
        return {"recall@1": next(scores)}

    method = catalog.load("methods", "margin", sizes=Sizes(6, 8, 768))
    options = TrainSettings(epochs=4, batch_size=12)
    history = train(model, method, features(), options, seed=0, device=CPU, validate=validate)
    assert history.epoch == 2
    assert history.validation == {"recall@1": 0.9}
    assert torch.equal(model.head.linear.weight, states[1])
    assert not torch.equal(states[1], states[3])


class Toy(BaseMethod):
    """A method with its own optimizer and a second head."""

    def __init__(self, sizes: Sizes, weight: float = 0.1) -> None:
        super().__init__(sizes)
        self.weight = weight
        self.extra = nn.Linear(sizes.feature_dim, sizes.dim)
        self.adversary = nn.Linear(sizes.dim, sizes.n_classes)
        self.adversary_optimizer = torch.optim.Adam(self.adversary.parameters(), lr=1e-2)
        self.steps = 0

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        extra = self.extra(batch.features)
        guess = nn.functional.cross_entropy(self.adversary(extra.detach()), batch.labels)
        self.adversary_optimizer.zero_grad()
        guess.backward()
        self.adversary_optimizer.step()
        fooled = -nn.functional.cross_entropy(self.adversary(extra), batch.labels)
        return {"agree": (batch.embeddings - extra).square().mean(), "fool": self.weight * fooled}

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        return [{"params": self.extra.parameters(), "lr": lr, "weight_decay": 0.0}]

    def after_step(self, batch: Batch, model: nn.Module) -> None:
        self.steps += 1


def test_a_method_has_its_own_terms_modules_and_optimizer() -> None:
    model = Embedder(HeadSettings(backbone="pixels", dim=8), LinearHead(768, 8))
    toy = Toy(Sizes(6, 8, 768))
    before = toy.adversary.weight.clone()
    options = TrainSettings(epochs=2, batch_size=12)
    history = train(model, toy, features(), options, seed=0, device=CPU)
    assert set(history.rows[0]) == {"epoch", "agree", "fool"}
    assert toy.steps == 8
    assert not torch.equal(toy.adversary.weight, before)


class Broken(BaseMethod):
    def terms(self, batch: Batch) -> dict[str, Tensor]:
        factor = np.nan if batch.step == 5 else 1.0
        return {"sum": batch.embeddings.sum() * factor}


def test_a_loss_that_is_not_finite_is_named() -> None:
    model = Embedder(HeadSettings(backbone="pixels", dim=8), LinearHead(768, 8))
    with pytest.raises(OodmlError, match=r"'sum' is nan .*step 5.*epoch 2.*classes 0, 1, 2"):
        train(
            model,
            Broken(Sizes(6, 8, 768)),
            features(),
            TrainSettings(epochs=3, batch_size=12),
            seed=0,
            device=CPU,
        )


class Vertical(BaseMethod):
    """At one step its loss is finite but its gradient is not."""

    def __init__(self, sizes: Sizes, at: int) -> None:
        super().__init__(sizes)
        self.at = at

    def terms(self, batch: Batch) -> dict[str, Tensor]:
        root = (0 * batch.embeddings).sum().sqrt() if batch.step == self.at else 0.0
        return {"sum": batch.embeddings.sum() + root}


@pytest.mark.parametrize("at", [4, 7])
@pytest.mark.parametrize("validates", [False, True])
def test_a_gradient_that_is_not_finite_leaves_the_last_good_weights(
    at: int, validates: bool
) -> None:
    model = Embedder(HeadSettings(backbone="pixels", dim=8), LinearHead(768, 8))
    good: list[Tensor] = []

    def validate() -> dict[str, float]:
        assert bool(model.head.linear.weight.isfinite().all())
        good.append(model.head.linear.weight.detach().clone())
        return {"recall@1": 0.5}

    with pytest.raises(NonFiniteError) as caught:
        train(
            model,
            Vertical(Sizes(6, 8, 768), at),
            features(),
            TrainSettings(epochs=3, batch_size=12),
            seed=0,
            device=CPU,
            validate=validate if validates else None,
        )
    if at == 7:
        assert caught.value.problem.startswith("head.linear.weight")
        assert "steps 4 to 7" in caught.value.problem
    assert caught.value.epoch == 1
    assert bool(model.head.linear.weight.isfinite().all())
    assert not validates or torch.equal(model.head.linear.weight, good[0])


def test_a_parameter_of_the_method_that_is_not_finite_is_named() -> None:
    class Late(Vertical):
        """Its own scale receives the gradient that is not finite."""

        def __init__(self, sizes: Sizes) -> None:
            super().__init__(sizes, 3)
            self.scale = nn.Parameter(torch.ones(2))

        def terms(self, batch: Batch) -> dict[str, Tensor]:
            root = (0 * self.scale).sum().sqrt() if batch.step == self.at else 0.0
            return {"sum": batch.embeddings.sum() * self.scale.sum() + root}

    model = Embedder(HeadSettings(backbone="pixels", dim=8), LinearHead(768, 8))
    options = TrainSettings(epochs=2, batch_size=12)
    with pytest.raises(NonFiniteError, match=r"method's scale .*epoch 1"):
        train(model, Late(Sizes(6, 8, 768)), features(), options, seed=0, device=CPU)


def test_an_unknown_metric_to_select_by() -> None:
    model = Embedder(HeadSettings(backbone="pixels", dim=8), LinearHead(768, 8))
    with pytest.raises(OodmlError, match=r"train.select.*'recal@1'"):
        train(
            model,
            Broken(Sizes(6, 8, 768)),
            features(),
            TrainSettings(epochs=1, batch_size=12, select="recal@1"),
            seed=0,
            device=CPU,
            validate=lambda: {"recall@1": 0.5},
        )


def test_both_views_use_the_precision_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bool, bool]] = []
    features = Embedder.features

    def record(self: Embedder, images: Tensor) -> Tensor:
        seen.append((torch.is_autocast_enabled("cpu"), torch.is_grad_enabled()))
        return features(self, images)

    monkeypatch.setattr(Embedder, "features", record)
    images = squares()
    settings = FinetuneSettings(backbone="small", dim=8, image_size=24)
    with isolated(0):
        method = catalog.load("methods", "diva", sizes=Sizes(6, 8, 96))
        model = Embedder(settings, method.head(), load_backbone("small"))
    source = ImageSource(images, images.labels, 24, "gentle")
    for precision in ("fp32", "bf16"):
        seen.clear()
        options = TrainSettings(epochs=1, batch_size=24, precision=precision)
        train(model, method, source, options, seed=0, device=CPU)
        half = precision == "bf16"
        assert seen == 2 * [(half, True), (half, False)]
