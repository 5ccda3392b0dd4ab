import pytest
import torch
from torch import Tensor

import oodml
from oodml import catalog
from oodml.adaptation import heads_of
from oodml.losses.margin import Loss as MarginLoss
from oodml.methods._base import Batch, Sizes
from oodml.methods.diva import PARTS, Head, Method
from oodml.model import Embedder, HeadSettings

SIZES = Sizes(n_classes=4, dim=16, feature_dim=12)


def sample(method: Method, step: int = 0) -> tuple[Embedder, Batch]:
    random = torch.Generator().manual_seed(step)
    first, second = torch.randn(2, 8, 12, generator=random)
    head = method.head()
    model = Embedder(HeadSettings(backbone="pixels", dim=16), head)
    labels = torch.arange(8) % 4
    return model, Batch(first, head(first), labels, step, random, second_features=second)


def test_the_embedding_concatenates_weighted_unit_parts() -> None:
    head = Head(12, 16, (0.5, 1.5, 1.5, 1.5))
    features = torch.randn(5, 12, generator=torch.Generator().manual_seed(0))
    outputs = head(features)
    parts = torch.cat([w * outputs[n] for n, w in zip(PARTS, head.part_weights, strict=True)], 1)
    torch.testing.assert_close(outputs["embedding"], parts / (0.25 + 3 * 2.25) ** 0.5)
    for name in PARTS:
        torch.testing.assert_close(outputs[name].norm(dim=1), torch.ones(5))
    adapted = heads_of(head, 12).embed(features[None])[0]
    torch.testing.assert_close(adapted, outputs["embedding"].detach())


def test_the_momentum_copy_follows_and_its_keys_are_queued() -> None:
    method = Method(SIZES, momentum=0.75, queue_batches=2)
    model, batch = sample(method)
    method.prepare(model)
    before = model.head.linear.weight.detach().clone()
    expected = model.head(batch.second_features)["selfsimilarity"]
    terms = method.terms(batch)
    assert terms["selfsimilarity"].item() == 0  # the queue is empty
    with torch.no_grad():
        model.head.linear.weight.zero_()
    for _ in range(3):
        method.after_step(batch, model)
    torch.testing.assert_close(method.teacher.linear.weight, before * 0.75**3)
    assert len(method.queue) == 2
    torch.testing.assert_close(method.queue[0], expected.detach())
    assert method.terms(batch)["selfsimilarity"] > 0
    assert not any(parameter.requires_grad for parameter in method.teacher.parameters())


def test_terms_are_weighted() -> None:
    def terms(**options: float) -> dict[str, Tensor]:
        torch.manual_seed(0)
        method = Method(SIZES, **options)
        model, batch = sample(method)
        method.prepare(model)
        return method.terms(batch)

    with torch.random.fork_rng():
        once, twice = terms(alpha=0.1, separation=10.0), terms(alpha=0.2, separation=30.0)
    torch.testing.assert_close(twice["shared"], 2 * once["shared"])
    torch.testing.assert_close(twice["intra"], 2 * once["intra"])
    torch.testing.assert_close(twice["discriminative"], once["discriminative"])
    torch.testing.assert_close(twice["separation"], 3 * once["separation"])


def test_three_boundaries_and_the_separation_learn() -> None:
    method = Method(SIZES, beta_lr=0.5, separation_lr=0.25)
    rates = [(group["lr"], len(group["params"])) for group in method.parameter_groups(1.0)]
    assert sorted(rates) == [(0.25, 12), (0.5, 1), (0.5, 1), (0.5, 1)]
    assert sum(isinstance(module, MarginLoss) for module in method.modules()) == 3


def test_errors() -> None:
    with pytest.raises(oodml.OodmlError) as error:
        catalog.load("methods", "diva", sizes=Sizes(4, 10, 12))
    assert error.value.location == "model.dim"
    assert error.value.given == 10
    with pytest.raises(oodml.OodmlError) as error:
        catalog.load("methods", "diva", sizes=SIZES, part_weights=[1, 1])
    assert error.value.location == "part_weights"
