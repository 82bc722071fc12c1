"""The values that a method keeps outside of its State: on itself, on its class and in its module."""

import random
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fairbench.objectives.contract import AdversarialObjective
from fairbench.testing.law import PACKAGE

OWN = ("config", "info", "state")
"""What the trainer gives a method; the state is saved."""

DEEPEST = 6
Value = Any
"""A value that can be compared with ==, and stays what it was."""


def kept_values(method: AdversarialObjective) -> dict[str, Value]:
    """By name ("self.x", "Class.x", "x of file.py") the values that are kept outside of the State."""
    kept = {f"self.{name}": frozen_value(value) for name, value in vars(method).items() if name not in OWN}
    for cls in own_classes(type(method)):
        kept |= {f"{cls.__name__}.{name}": value for name, value in _data(vars(cls))}
    for variables in module_variables(type(method)):
        file = Path(variables.get("__file__") or "its module").name
        kept |= {f"{name} of {file}": value for name, value in _data(variables)}
    return kept


def changed_names(before: Mapping[str, Value], after: Mapping[str, Value]) -> list[str]:
    """The names whose values differ, or that only one of the two has."""
    return sorted(name for name in {*before, *after} if before.get(name, ABSENT) != after.get(name, ABSENT))


def own_classes(cls: type) -> list[type]:
    """The class and its base classes that are no part of fairbench."""
    return [each for each in cls.__mro__[:-1] if not _file(each).startswith(PACKAGE)]


def module_variables(cls: type) -> list[dict[str, Any]]:
    """The global variables of the modules in which the class and its own base classes are defined."""
    found: dict[int, dict[str, Any]] = {}
    for each in own_classes(cls):
        for part in vars(each).values():
            variables = getattr(getattr(part, "__func__", part), "__globals__", None)
            if variables is not None and part.__module__ == each.__module__:
                found[id(variables)] = variables
    return list(found.values())


def frozen_value(value: Any, depth: int = 0) -> Value:
    """`value` with everything inside it, compared by value; what has no value is compared by identity."""
    if value is None or isinstance(value, str | bytes | int | float | complex):
        return (type(value).__name__, repr(value))
    if isinstance(value, Tensor):
        return ("tensor", str(value.dtype), tuple(value.shape), _bytes(value))
    if isinstance(value, np.ndarray):
        return ("array", str(value.dtype), value.shape, value.tobytes())
    if isinstance(value, torch.Generator):
        return ("generator", _bytes(value.get_state()))
    if isinstance(value, np.random.Generator):
        return ("generator", repr(value.bit_generator.state))
    if isinstance(value, random.Random):
        return ("generator", repr(value.getstate()))
    if isinstance(value, type | ModuleType) or callable(getattr(value, "__get__", None)) or depth > DEEPEST:
        return ("object", id(value))
    if isinstance(value, Mapping):
        return ("dict", [(repr(key), frozen_value(each, depth + 1)) for key, each in value.items()])
    if isinstance(value, list | tuple):
        return (type(value).__name__, [frozen_value(each, depth + 1) for each in value])
    if isinstance(value, set | frozenset):
        return ("set", sorted(map(repr, value)))
    if isinstance(value, nn.Module):
        return ("network", [(name, _bytes(part)) for name, part in value.state_dict().items()])
    if hasattr(value, "__dict__"):
        return (type(value).__name__, frozen_value(vars(value), depth + 1))
    return ("object", id(value))


ABSENT = ("absent",)


def _bytes(value: Tensor) -> bytes:
    if value.device.type == "meta" or value.numel() == 0:
        return b""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _data(variables: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    """Variables that hold data: no functions, classes or modules, and no names of Python's own."""
    for name, value in list(variables.items()):
        data = isinstance(value, Tensor | np.ndarray | Mapping | list | set | int | float | torch.Generator)
        if data and not name.startswith("__"):
            yield name, frozen_value(value)


def _file(cls: type) -> str:
    return str(getattr(sys.modules.get(cls.__module__), "__file__", None) or "")
