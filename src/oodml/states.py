"""Plain values in one file.

It is safetensors throughout: the tensors and arrays, and as JSON in its header all else. It is
written whole or not at all, and reading it runs no code.
"""

import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oodml.files import replacing

PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class Inside:
    """What an object holds, to be set in one that is made anew; nothing, if it stays as made."""

    values: dict[Any, Any]


def is_array(value: object) -> bool:
    """Whether it is an array or scalar of numpy that can be written."""
    return isinstance(value, np.ndarray | np.generic) and not (
        value.dtype.hasobject or value.dtype.fields
    )


def write_state(path: Path, state: object, key: str) -> None:
    """Write values under a key.

    They are numbers, text, tensors and arrays, nested in dictionaries, lists, tuples, deques, sets
    and `Inside`. Raises TypeError for others.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    text = json.dumps(_packed(state, tensors))
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"key": key, "state": text})


def state_key(path: Path) -> str:
    """The key that a file of `write_state` was written under.

    Raises ValueError for a file that is torn or another's.
    """
    with _opened(path) as file:
        return str(file.metadata()["key"])


def read_state(path: Path, device: torch.device) -> Any:
    """The values of a file of `write_state`; tensors that were not on the CPU come to `device`.

    Raises ValueError for a file that is torn or another's.
    """
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _unpacked(json.loads(file.metadata()["state"]), tensors, device)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"not a whole file of states: {error}") from error


def _packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON values, with the tensors put aside under numbers."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name, "moved": value.device.type != "cpu"}
    if is_array(value):
        flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        name = _packed(torch.from_numpy(flat), tensors)["tensor"]
        single = isinstance(value, np.generic)
        return {"array": name, "type": value.dtype.str, "shape": value.shape, "single": single}
    if isinstance(value, Inside):
        return {"inside": _packed(value.values, tensors)}
    if isinstance(value, set | frozenset | deque):
        more = {"maxlen": value.maxlen} if isinstance(value, deque) else {}
        return {type(value).__name__: [_packed(one, tensors) for one in value], **more}
    if isinstance(value, dict):
        return {"pairs": [[_packed(k, tensors), _packed(v, tensors)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_packed(one, tensors) for one in value]}
    if isinstance(value, list):
        return [_packed(one, tensors) for one in value]
    if value is None or isinstance(value, PLAIN):
        return value
    raise TypeError(f"a state holds a {type(value).__name__}, which is no plain value")


def _unpacked(value: Any, tensors: dict[str, Tensor], device: torch.device) -> Any:
    if isinstance(value, list):
        return [_unpacked(one, tensors, device) for one in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        tensor = tensors[value["tensor"]]
        return tensor.to(device) if value["moved"] else tensor
    if "array" in value:
        return _array(tensors[value["array"]], value)
    if "inside" in value:
        return Inside(_unpacked(value["inside"], tensors, device))
    if "deque" in value:
        return deque(_unpacked(value["deque"], tensors, device), value["maxlen"])
    for kind in (tuple, set, frozenset):
        if kind.__name__ in value:
            return kind(_unpacked(value[kind.__name__], tensors, device))
    return {
        _unpacked(key, tensors, device): _unpacked(one, tensors, device)
        for key, one in value["pairs"]
    }


def _array(flat: Tensor, described: dict[str, Any]) -> Any:
    kind = np.dtype(described["type"])
    if kind.hasobject:
        raise ValueError(f"an array of {kind} is not read")
    found = np.ndarray(described["shape"], kind, flat.numpy().tobytes()).copy()
    return found[()] if described["single"] else found
