"""Comparing a loss with a value and a gradient of the original code."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Arrays = dict[str, Tensor]


def read(path: Path) -> Arrays:
    """The arrays of a reference file as tensors."""
    with np.load(path) as arrays:
        return {key: torch.from_numpy(np.asarray(arrays[key])) for key in arrays.files}


def check(
    arrays: Arrays,
    key: str,
    loss: Callable[[Tensor], Tensor],
    inputs: str = "x",
    gradients: dict[str, Any] | None = None,
) -> None:
    """Loss to 1e-5 relative, gradients to 1e-4 of the largest entry.

    gradients: parameters of the loss by the name their gradient has in the file.
    """
    embeddings = arrays[inputs].clone().requires_grad_()
    value = loss(embeddings)
    value.backward()
    torch.testing.assert_close(value.double(), arrays[f"loss_{key}"], rtol=1e-5, atol=1e-7)
    computed = {f"grad_{key}": embeddings.grad}
    computed |= {name: parameter.grad for name, parameter in (gradients or {}).items()}
    for name, gradient in computed.items():
        expected = arrays[name]
        largest = expected.abs().max().item()
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-4 * largest + 1e-9)


def set_parameter(parameter: Tensor, value: Tensor) -> None:
    """Set a parameter to a reference value."""
    with torch.no_grad():
        parameter.copy_(value)
