"""Which device a run uses, and in which numerical mode."""

import os
from typing import Any

import torch

from fairbench.core.errors import ConfigError, EnvironmentFault


def choose_device(name: str) -> torch.device:
    """The device of "auto", "cpu" or "cuda". Raises EnvironmentFault when there is no such device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise EnvironmentFault(
            "no CUDA device is available.", hint="use --device cpu; `fairbench doctor` says what was found"
        )
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"no device called {name!r}.", hint="one of: auto, cpu, cuda")
    # Results are float32: no silent TF32 in convolutions or products, and the same kernels each time.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device(name)


def describe_device(device: torch.device) -> dict[str, Any]:
    """What a record says of the device."""
    if device.type == "cuda":
        return {"type": "cuda", "name": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return {"type": "cpu", "threads": torch.get_num_threads(), "cores": os.cpu_count()}
