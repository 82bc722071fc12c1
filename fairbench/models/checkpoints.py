"""Checkpoints as safetensors: model weights, and the full state for an exact resume. No pickle."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import Tensor, nn

from fairbench.core.errors import CheckpointError
from fairbench.core.files import write_atomic


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors atomically, with `about` (plain data) as JSON in the header."""
    held = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    told = {**about, "digest": _digest(held, about)}
    data = save(held, metadata={"fairbench": json.dumps(told)})
    write_atomic(path, lambda file: file.write(data))


def read_tensors(path: Path, device: torch.device | str = "cpu") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors in a safetensors file and what `write_tensors` said about them.

    Raises CheckpointError when the file is missing, cut short, not safetensors, or when its content is not
    that of which `write_tensors` took the digest.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("fairbench", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if not isinstance(about, dict):
            raise ValueError("its header does not say what it is")
        if "digest" in about and about.pop("digest") != _digest(tensors, about):
            raise ValueError("its content is not what was written: a bit flipped, or somebody changed it")
        return {name: tensor.to(device) for name, tensor in tensors.items()}, about
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"cannot read the checkpoint {path}: {error}.",
            hint="the file is missing, cut short or damaged; if a run wrote it, delete it and run again",
        ) from error


def _digest(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """SHA-256 of `about` and of the names, types, shapes and bytes of tensors on the CPU."""
    state = hashlib.sha256(json.dumps(about).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return state.hexdigest()


def weights_path(folder: Path, epoch: int) -> Path:
    """Where the weights of an epoch are in a run folder."""
    return folder / "checkpoints" / f"epoch-{epoch:04d}.safetensors"


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], origin: str) -> None:
    """Copy `weights` into `model`.

    Raises CheckpointError that says whether the architecture, the input or the number of classes differs.
    """
    wanted = model.state_dict()
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    missing = sorted(set(wanted) - set(weights) - optional)
    unknown = sorted(set(weights) - set(wanted))
    if missing or unknown:
        shown = [f"lacks {name}" for name in missing[:3]] + [f"has {name}" for name in unknown[:3]]
        raise CheckpointError(
            f"{origin} is a checkpoint of another architecture: it {', it '.join(shown)} "
            f"({len(missing)} missing, {len(unknown)} unknown of {len(wanted)}).",
            hint="name the architecture it was trained with: --model (see: fairbench list models)",
        )
    for name, tensor in weights.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(
                f"{origin} does not fit: {name} has shape {tuple(tensor.shape)}, the model expects "
                f"{tuple(wanted[name].shape)}.",
                hint="it was trained for other classes or another image size: check --dataset and --model",
            )
    model.load_state_dict({**{name: wanted[name] for name in optional}, **weights})
