"""Checkpoints in safetensors files: model weights, and full training states. No pickle."""

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
from fairbench.core.files import parse_json, write_atomic
from fairbench.core.regular import require_regular

OTHER = "a checkpoint of another architecture"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors atomically, with `about` (plain data) and a digest as JSON in the header."""
    on_cpu = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    header = {**about, "digest": _digest(on_cpu, about)}
    data = save(on_cpu, metadata={"fairbench": json.dumps(header)})
    write_atomic(path, lambda file: file.write(data))


def read_tensors(
    path: Path, device: torch.device | str = "cpu", *, links: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors in a safetensors file and the `about` given to `write_tensors`.

    links: whether `path` may be a symbolic link. Raises CheckpointError when the file is missing, truncated,
    not a regular file, not safetensors, or when its content does not match its digest.
    """
    try:
        require_regular(path, links=links)
        with safetensors.safe_open(path, framework="pt") as file:
            about = parse_json((file.metadata() or {}).get("fairbench", "{}").encode())
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if not isinstance(about, dict):
            raise ValueError("its header is not a JSON object")
        if "digest" in about and about.pop("digest") != _digest(tensors, about):
            raise ValueError("it was damaged or edited: its content does not match its digest")
        return {name: tensor.to(device) for name, tensor in tensors.items()}, about
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"cannot read the checkpoint {path}: {error}.",
            hint="the file is missing, truncated or damaged; if a run wrote it, delete it and run again",
        ) from error


def _digest(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    """SHA-256 of `about` and of the names, types, shapes and bytes of tensors on the CPU."""
    state = hashlib.sha256(json.dumps(about).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return state.hexdigest()


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], origin: str) -> None:
    """Copy `weights` into `model`.

    Raises CheckpointError, which names whether the architecture, the input or the number of classes differs.
    """
    expected = model.state_dict()
    optional = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = sorted(set(expected) - set(weights) - optional)
    unknown = sorted(set(weights) - set(expected))
    if missing or unknown:
        shown = [f"lacks {name}" for name in missing[:3]] + [f"has {name}" for name in unknown[:3]]
        raise CheckpointError(
            f"{origin} is {OTHER}: it {', it '.join(shown)} "
            f"({len(missing)} missing, {len(unknown)} unknown of {len(expected)}).",
            hint="give the architecture it was trained with: --models NAME (see: fairbench list models)",
        )
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            raise CheckpointError(
                f"{origin} does not fit: {name} has shape {tuple(tensor.shape)}, the model expects "
                f"{tuple(expected[name].shape)}.",
                hint="it was trained for other classes or another image size: check --datasets and --models",
            )
    model.load_state_dict({**{name: expected[name] for name in optional}, **weights})
