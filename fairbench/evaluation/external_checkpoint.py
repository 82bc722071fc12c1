"""Checkpoints of other programs: plain or wrapped state dicts, safetensors. No pickled code is run."""

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
    """The weights in `path` by parameter name, without the prefixes of wrappers.

    Reads safetensors files, and torch files with weights_only=True. Raises CheckpointError with the
    reason when the file is missing, truncated, not a checkpoint, or contains more than weights.
    """
    if not path.is_file():
        raise CheckpointError(
            f"there is no checkpoint at {path}.",
            hint="it is a folder: give a file in it, or name a model of the zoo: --model robustbench:NAME"
            if path.is_dir()
            else "",
        )
    if path.suffix == ".safetensors":
        tensors, _ = read_tensors(path)
        return unwrapped(tensors)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns about pickles of other tools
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} contains more than weights, or is damaged; it was not loaded.",
            hint="save only the weights: torch.save(model.state_dict(), FILE), or as safetensors\n"
            f"reason: {str(error).splitlines()[0][:200]}",
        ) from error
    except Exception as error:  # a damaged file may raise anything
        reason = f"{type(error).__name__} {error}".splitlines()[0][:200]
        raise CheckpointError(
            f"{path} cannot be read: {reason}.",
            hint="the file is truncated, damaged or not a checkpoint; copy it again",
        ) from error
    return unwrapped(weights_in(content, path))


def weights_in(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict in the content of a torch file: the content itself, or an entry of it."""
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
            f"{path} does not contain a state dict.",
            hint=f"expected tensors by name, or a mapping with one of: {', '.join(WRAPPERS)}",
        )
    return {str(name): value for name, value in content.items()}


def digest_weights(state: Mapping[str, Any]) -> str:
    """SHA-256 of a state dict's tensors: their names, types, shapes and bits."""
    hasher = hashlib.sha256()
    for name, value in sorted((n, v) for n, v in state.items() if isinstance(v, Tensor)):
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        hasher.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hasher.hexdigest()


def unwrapped(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights without a wrapper's prefix on all names (DataParallel, torch.compile, wrapped models)."""
    changed = True
    while changed:
        changed = False
        for prefix in PREFIXES:
            if weights and all(name.startswith(prefix) for name in weights):
                weights = {name.removeprefix(prefix): value for name, value in weights.items()}
                changed = True
    return weights
