"""Every loss and miner is one graph to the compiler."""

import subprocess
import sys

import pytest

SCRIPT = """
import inspect, torch, oodml
from oodml import catalog
from oodml.losses._base import LabelLoss, TripletLoss

generator = torch.Generator().manual_seed(0)
x, y = torch.randn(12, 6, generator=generator), torch.arange(12) % 4
triplets = torch.tensor([[0, 4, 1], [1, 5, 2], [3, 7, 0]]), torch.tensor([True, True, False])
compiled = lambda function: torch.compile(function, fullgraph=True, backend="aot_eager")
for name in oodml.names("losses"):
    kind = catalog.get_class("losses", name)
    if not issubclass(kind, LabelLoss | TripletLoss):
        continue
    accepted = inspect.signature(kind).parameters
    sizes = {k: v for k, v in {"n_classes": 4, "dim": 6}.items() if k in accepted}
    loss, more = oodml.load("losses", name, **sizes), triplets * issubclass(kind, TripletLoss)
    torch._dynamo.reset()
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    compiled(loss)(first, y, *more).backward()
    loss(second, y, *more).backward()
    torch.testing.assert_close(first.grad, second.grad)
for name in oodml.names("miners"):
    choose = oodml.load("miners", name).choose
    torch._dynamo.reset()
    uniform = torch.rand(4, 12, generator=generator)
    assert all(map(torch.equal, compiled(choose)(x, y, uniform), choose(x, y, uniform))), name
print("done")
"""


@pytest.mark.slow
def test_one_graph() -> None:
    # In a process of its own: the checks of shapes that tests switch on break graphs.
    made = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert made.stdout.endswith("done\n"), made.stderr
