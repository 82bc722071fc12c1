"""The state of a method: declared fields, filled at the start, saved as tensors."""

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

import torch
from torch import Tensor

from fairbench.core.errors import ContractError


def per_class(fill: float) -> Any:
    """A state field (C,), float64, filled with `fill` at the start."""
    return field(default=None, metadata={"axes": 1, "fill": fill})


def per_class_pair(fill: float) -> Any:
    """A state field (C, C), float64, filled with `fill` at the start."""
    return field(default=None, metadata={"axes": 2, "fill": fill})


def per_example(fill: float) -> Any:
    """A state field (N,), float64, filled with `fill` at the start: one value per image of the training set.

    `state.field[batch.index]` are those of a batch (B,). Held-out images have a value too.
    """
    return field(default=None, metadata={"axes": 0, "per_example": True, "fill": fill})


def initial_state(state: type, num_classes: int, num_images: int, device: torch.device) -> Any:
    """An instance of the `State` class, with its `per_class`, `per_class_pair` and `per_example` fields."""
    filled = {}
    for f in fields(state):
        if "axes" in f.metadata:  # number of axes that are classes
            shape = (num_images,) if "per_example" in f.metadata else (num_classes,) * f.metadata["axes"]
            filled[f.name] = torch.full(shape, f.metadata["fill"], dtype=torch.float64, device=device)
    return state(**filled)


def state_tensors(state: Any) -> dict[str, Tensor]:
    """The fields of a state as tensors; numbers become 0-dimensional."""
    values = {f.name: getattr(state, f.name) for f in fields(state)}
    return {name: value if isinstance(value, Tensor) else _tensor(value) for name, value in values.items()}


def load_state(state: Any, saved: Mapping[str, Tensor], method: str) -> None:
    """Set the fields of a state to saved values. Raises ContractError when they are not its own fields."""
    declared = {f.name for f in fields(state)}
    if declared != set(saved):
        raise ContractError(
            f"the saved state of {method!r} has {sorted(saved)}, the method declares {sorted(declared)}."
        )
    for name, value in saved.items():
        current = getattr(state, name)
        restored = value.to(current.device) if isinstance(current, Tensor) else value.item()
        setattr(state, name, restored)


def _tensor(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
