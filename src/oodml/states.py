"""What a module or optimiser holds, as plain values, and such values in one file.

A file is safetensors throughout: the tensors, and as JSON in its header all that is no tensor. It
is written whole or not at all, and reading it runs no code.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oodml.files import replacing

PLAIN = (bool, int, float, str)


def module_state(module: nn.Module) -> dict[str, Any]:
    """Weights, buffers, optimisers of its own, and plain attributes such as queues and counters.

    It refers to the module's tensors; write it or copy it before they change.
    """
    held = {path: dict(_held(part)) for path, part in module.named_modules()}
    own = {path: values for path, values in held.items() if values}
    return {"weights": module.state_dict(), "attributes": own}


def load_module_state(module: nn.Module, state: dict[str, Any]) -> None:
    """Bring a module of the same making to a state that `module_state` gave."""
    module.load_state_dict(state["weights"])
    parts = dict(module.named_modules())
    for path, values in state["attributes"].items():
        for name, value in values.items():
            own = getattr(parts[path], name, None)
            if isinstance(own, torch.optim.Optimizer):
                own.load_state_dict(value)
            else:
                setattr(parts[path], name, value)


def _held(part: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in vars(part).items():
        if name.startswith("_") or name == "training":
            continue
        if isinstance(value, torch.optim.Optimizer):
            yield name, value.state_dict()
        elif _is_plain(value):
            yield name, value


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(one) for pair in value.items() for one in pair)
    if isinstance(value, list | tuple):
        return type(value) in (list, tuple) and all(map(_is_plain, value))
    return value is None or isinstance(value, (Tensor, *PLAIN))


def write_state(path: Path, state: object, key: str) -> None:
    """Write plain values and tensors, nested in dictionaries, lists and tuples, under a key."""
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
    if "tuple" in value:
        return tuple(_unpacked(one, tensors, device) for one in value["tuple"])
    return {
        _unpacked(key, tensors, device): _unpacked(one, tensors, device)
        for key, one in value["pairs"]
    }
