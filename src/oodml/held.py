"""What a module and the objects in it hold beside weights, as plain values, and back again.

Plain values are what `oodml.states` writes: numbers, text, tensors, numpy arrays, and lists,
tuples, dictionaries, deques and sets of them. An object can't be one: of it is held what it holds,
which is set in the object of the same place in a module of the same making.
"""

import enum
import logging
import random
import re
import types
import weakref
from collections import deque
from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from oodml.states import PLAIN, Inside, is_array

OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""The attributes that torch gives a module: what they hold is in its state already, or hooks."""

STAYS: tuple[type, ...] = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    partial,
    enum.Enum,
    PurePath,
    range,
    re.Pattern,
    logging.Logger,
    weakref.ref,
    np.dtype,
    torch.device,
    torch.dtype,
    torch.memory_format,
    torch.Size,
)
"""What does not change while a training runs, or only with something that is held elsewhere."""

OF_THEIR_OWN = (list, tuple, set, frozenset, deque, dict, int, float, str)
"""A subclass of these holds more than its attributes."""


def module_state(module: nn.Module) -> dict[str, Any]:
    """Weights and buffers, and all that attributes hold: counters, queues, optimisers, objects.

    "unheld" names the attributes that it does not bring back. It refers to the module's tensors;
    write it or copy it before they change.
    """
    holding = _Holding()
    return holding.module(module, "") | {"unheld": holding.unheld}


def load_module_state(module: nn.Module, state: dict[str, Any]) -> None:
    """Bring a module of the same making to a state that `module_state` gave."""
    module.load_state_dict(state["weights"])
    parts = dict(module.named_modules())
    for path, values in state["attributes"].items():
        _set(parts[path], values, path)


def fits(module: nn.Module, state: dict[str, Any]) -> bool:
    """Whether a module can be brought to a state: not if its parts were made on the way."""
    parts = dict(module.named_modules())
    same: bool = module.state_dict().keys() == state["weights"].keys()
    return same and all(path in parts for path in state["attributes"])


class _Holding:
    """One look at a module; each object is held where it is met first."""

    def __init__(self) -> None:
        self.met: set[int] = set()
        self.unheld: list[str] = []

    def module(self, module: nn.Module, name: str) -> dict[str, Any]:
        parts = dict(module.named_modules())
        self.met |= {id(part) for part in parts.values()}
        attributes = {}
        for path, part in parts.items():
            values = {key: value for key, value in vars(part).items() if key not in OF_EVERY_MODULE}
            values |= {key: part._buffers[key] for key in part._non_persistent_buffers_set}
            if values:
                attributes[path] = self._attributes(values, _join(name, path))
        return {"weights": module.state_dict(), "attributes": attributes}

    def _attributes(self, values: dict[str, Any], name: str) -> dict[str, Any]:
        return {key: self.value(value, _join(name, key)) for key, value in values.items()}

    def value(self, value: Any, name: str) -> Any:
        """Plain values. name: of the attribute."""
        if value is None or isinstance(value, Tensor) or type(value) in PLAIN or is_array(value):
            return value
        if type(value) in (list, tuple):
            return type(value)(self.value(one, name) for one in value)
        if type(value) is deque:
            return deque((self.value(one, name) for one in value), value.maxlen)
        if type(value) in (set, frozenset) and all(map(_is_key, value)):
            return value
        if type(value) is dict and all(map(_is_key, value)):
            return {key: self.value(one, name) for key, one in value.items()}
        if isinstance(value, STAYS) or id(value) in self.met:
            return Inside({})
        self.met.add(id(value))
        return Inside(self._inside(value, name))

    def _inside(self, value: Any, name: str) -> dict[Any, Any]:
        if isinstance(value, nn.Module):
            return self.module(value, name)
        if isinstance(value, random.Random):
            return {"state": value.getstate()}
        if isinstance(value, torch.Generator):
            return {"state": value.get_state()}
        if isinstance(value, np.random.Generator):
            return {"state": self.value(value.bit_generator.state, name)}
        if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
            return {"state": self.value(dict(value.state_dict()), name)}
        if isinstance(value, dict) and all(map(_is_key, value)):
            return {key: self.value(one, name) for key, one in value.items()}
        if hasattr(value, "__dict__") and not isinstance(value, OF_THEIR_OWN):
            return self._attributes(vars(value), name)
        self.unheld.append(name)
        return {}


def _is_key(value: object) -> bool:
    if type(value) is tuple:
        return all(map(_is_key, value))
    return value is None or type(value) in PLAIN


def _join(name: str, more: str) -> str:
    return f"{name}.{more}" if name and more else name or more


def _set(own: Any, values: dict[str, Any], name: str) -> None:
    """Bring the attributes of an object to these values."""
    buffers = own._buffers if isinstance(own, nn.Module) else {}
    for key, value in values.items():
        place = buffers if key in buffers else vars(own)
        place[key] = _brought(place.get(key), value, _join(name, key))


def _brought(own: Any, value: Any, name: str) -> Any:
    """`own` brought to what was held of it, or the value."""
    if isinstance(value, Inside):
        _fill(own, value.values, name)
        return own
    if isinstance(value, Tensor) and isinstance(own, Tensor) and own.is_leaf and own.requires_grad:
        with torch.no_grad():  # an optimiser may know it
            return own.copy_(value)
    if isinstance(value, list | tuple | deque):
        owns = [*own] if isinstance(own, list | tuple | deque) else []
        owns += [None] * len(value)
        found = [_brought(one, held, name) for one, held in zip(owns, value, strict=False)]
        return deque(found, value.maxlen) if isinstance(value, deque) else type(value)(found)
    if isinstance(value, dict):
        known = own if isinstance(own, dict) else {}
        return {key: _brought(known.get(key), held, name) for key, held in value.items()}
    return value


def _fill(own: Any, values: dict[Any, Any], name: str) -> None:
    """Bring an object to what was held of it."""
    if not values:
        return
    if isinstance(own, nn.Module):
        load_module_state(own, values)
    elif isinstance(own, random.Random):
        own.setstate(values["state"])
    elif isinstance(own, torch.Generator):
        own.set_state(values["state"])
    elif isinstance(own, np.random.Generator):
        own.bit_generator.state = values["state"]
    elif hasattr(own, "load_state_dict"):
        own.load_state_dict(values["state"])
    elif isinstance(own, dict):
        brought = _brought(own, values, name)
        own.clear()
        own.update(brought)
    elif hasattr(own, "__dict__"):
        _set(own, values, name)
    else:
        told = "%s: what it held does not come back: it is not there when the training starts"
        logging.getLogger("oodml").warning(told, name)
