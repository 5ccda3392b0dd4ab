import torch

from oodml.methods._base import Batch, Sizes
from oodml.methods.uniform_prior import Method
from oodml.model import Embedder, HeadSettings, LinearHead


def sample(features: torch.Tensor, step: int) -> Batch:
    heads = {"embedding": torch.eye(8)[:, :4]}
    labels = torch.arange(8) % 4
    return Batch(features, heads, labels, step, torch.Generator().manual_seed(step))


def test_the_discriminator_trains_alone_at_its_interval() -> None:
    method = Method(Sizes(4, 4, 10), every=3, chunk=4)
    model = Embedder(HeadSettings(backbone="pixels", dim=4), LinearHead(10, 4))
    first = method.discriminator[0].weight
    held = {id(p) for group in method.parameter_groups(1.0) for p in group["params"]}
    assert id(first) not in held
    for step in range(4):
        features = torch.randn(8, 10, generator=torch.Generator().manual_seed(step))
        features.requires_grad_()
        before = first.detach().clone()
        batch = sample(features, step)
        method.terms(batch)["uniform_prior"].backward()
        assert features.grad is not None
        assert features.grad[:, :8].abs().sum() > 0
        assert features.grad[:, 8:].abs().sum() == 0  # what is left over of two chunks of 4
        gradient = features.grad.clone()
        method.after_step(batch, model)
        assert torch.equal(features.grad, gradient)
        assert torch.equal(first, before) == (step % 3 > 0)


def test_the_discriminator_learns_to_separate() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = Method(Sizes(4, 4, 8), every=1, chunk=4, discriminator_lr=1e-2)
    model = Embedder(HeadSettings(backbone="pixels", dim=4), LinearHead(8, 4))
    features = 0.1 * torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) + 0.9
    labels = torch.arange(64) % 4
    for step in range(60):
        random = torch.Generator().manual_seed(step)
        batch = Batch(features, {"embedding": features[:, :4]}, labels, step, random)
        method.after_step(batch, model)
    with torch.no_grad():
        uniform = torch.rand(128, 4, generator=torch.Generator().manual_seed(9)) * 2 - 1
        assert method.discriminator(uniform).mean() > 0.5
        assert method.discriminator(features.reshape(-1, 4)).mean() < -0.5
