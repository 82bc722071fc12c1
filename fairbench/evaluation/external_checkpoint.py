"""Checkpoints from anywhere: plain state dicts, wrapped ones, safetensors. A pickle is never executed."""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fairbench.core.errors import CheckpointError
from fairbench.models.checkpoints import read_tensors

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights", "last")
PREFIXES = ("module.", "_orig_mod.", "model.")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights in `path` by parameter name, without the prefixes that wrappers add.

    Reads safetensors and torch files, the latter weights-only. Raises CheckpointError with the
    reason when the file is missing, cut short, not a checkpoint, or holds more than weights.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint at {path}.",
            hint="it is a folder: name a file in it, or a model of the zoo, --model robustbench:NAME"
            if path.is_dir()
            else "",
        )
    if path.suffix == ".safetensors":
        tensors, _ = read_tensors(path)
        return unwrapped(tensors)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch remarks on pickles of other tools
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than weights, or is damaged; it was not opened.",
            hint="save the weights alone, torch.save(model.state_dict(), FILE), or as safetensors\n"
            f"the reason: {str(error).splitlines()[0][:200]}",
        ) from error
    except Exception as error:  # a damaged file may raise anything
        reason = f"{type(error).__name__} {error}".splitlines()[0][:200]
        raise CheckpointError(
            f"{path} cannot be read: {reason}.",
            hint="the file is cut short, damaged or not a checkpoint; copy it again",
        ) from error
    return unwrapped(weights_in(content, path))


def weights_in(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in a torch file's content, which may lie one level down."""
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(v, Tensor) for v in content.values())
    ):
        raise CheckpointError(
            f"{path} does not hold a state dict.",
            hint=f"expected tensors by name, or a mapping with one of: {', '.join(WRAPPERS)}",
        )
    return {str(name): value for name, value in content.items()}


def digest_weights(state: Mapping[str, Any]) -> str:
    """SHA-256 of a state dict's tensors: their names, types, shapes and bits."""
    found = hashlib.sha256()
    for name, value in sorted((n, v) for n, v in state.items() if isinstance(v, Tensor)):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without a prefix that all names share (DataParallel, compiled or wrapped models)."""
    changed = True
    while changed:
        changed = False
        for prefix in PREFIXES:
            if weights and all(name.startswith(prefix) for name in weights):
                weights = {name.removeprefix(prefix): value for name, value in weights.items()}
                changed = True
    return weights
