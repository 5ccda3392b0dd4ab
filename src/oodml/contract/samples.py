"""Small batches and images that promises are tried on."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from oodml.images.image_set import ImageSet

DIM = 6
"""Of the embeddings."""
ODD = {
    "one class": (1, 1, 1, 1),
    "singletons": (0, 1, 2, 3),
    "a singleton": (0, 0, 0, 3),
    "one row": (2,),
    "one pair": (0, 0),
}
"""Labels of batches that a loss or miner must stand."""


def rows(labels: Sequence[int], seed: int = 0, kind: str = "unit") -> tuple[Tensor, Tensor]:
    """Embeddings [n d] and labels [n]. kind: unit, long, zero, collapsed or antipodal."""
    y = torch.tensor(list(labels))
    x = torch.randn(len(y), DIM, generator=torch.Generator().manual_seed(seed))
    x = torch.nn.functional.normalize(x, dim=1)
    if kind == "collapsed":
        return x[:1].expand_as(x).clone(), y
    if kind == "antipodal":
        return x[:1] * (1 - 2 * (torch.arange(len(y)) % 2))[:, None], y
    return x * {"unit": 1.0, "long": 20.0, "zero": 0.0}[kind], y


KINDS = ("unit", "long", "zero", "collapsed", "antipodal")


def squares(classes: int = 6, each: int = 8, side: int = 24, seed: int = 0) -> ImageSet:
    """Noisy grey images; a class is the place and brightness of a square. Two superclasses."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 60, (classes * each, side, side)).astype(np.uint8)
    names = np.array([f"c{c:02d}" for c in range(classes) for _ in range(each)])
    for row in range(len(pixels)):
        c = row // each
        top, left = (c * 5) % (side - 8), (c * 7) % (side - 8)
        pixels[row, top : top + 8, left : left + 8] = 120 + (c * 40) % 130
    return ImageSet(
        "squares",
        ids=np.array([f"{name}/{i:03d}" for i, name in enumerate(names)]),
        classes=names,
        superclasses=np.array(["even" if int(name[1:]) % 2 == 0 else "odd" for name in names]),
        pixels=pixels,
    )


WAITING = {
    "_local_scalar_dense": "item() or an `if` on a tensor",
    "nonzero": "nonzero()",
    "masked_select": "masked_select()",
    "_unique2": "unique()",
    "unique_consecutive": "unique_consecutive()",
}
"""Operations whose result the host has to wait for, and what they are written as."""


def waits(compute: Callable[[], Any]) -> str:
    """The first thing in a computation that would wait for a GPU, "" if there is none."""
    found: list[str] = []

    class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            name = operation.overloadpacket.__name__
            indices = args[1] if name in ("index", "index_put_", "index_put") else ()
            if any(i is not None and i.dtype == torch.bool for i in indices):
                found.append("indexing by a mask")
            elif name in WAITING:
                found.append(WAITING[name])
            return operation(*args, **(kwargs or {}))

    class Methods(TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if function in (Tensor.numpy, Tensor.tolist, Tensor.cpu):
                found.append(f"{function.__name__}()")
            return function(*args, **(kwargs or {}))

    with Methods(), Operations():  # type: ignore[no-untyped-call]
        compute()
    return found[0] if found else ""
