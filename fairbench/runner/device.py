"""Which device a run uses, and in which numerical mode."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import torch

from fairbench.core.errors import ConfigError, EnvironmentFault
from fairbench.registry.protocol import Precision

logger = logging.getLogger(__name__)
AMPERE = (8, 0)  # compute capability of the first GPUs with TF32 and bfloat16
ALL_THREADS = torch.get_num_threads()
FEW_PIXELS = 1 << 15  # per batch: digits have 4096, CIFAR-10 131072


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


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raise EnvironmentFault when the device cannot train in this precision; say so where it is slow."""
    if precision == "fp32":
        return
    other = "take another device, or: --set protocol.precision=fp32"
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) < AMPERE:
            raise EnvironmentFault(
                f"protocol.precision: {torch.cuda.get_device_name(device)} has no {precision} units.",
                hint=other,
            )
    elif precision == "tf32":
        raise EnvironmentFault("protocol.precision: tf32 is for NVIDIA GPUs, and this is a CPU.", hint=other)
    elif not has_bf16_units():
        logger.warning("this CPU has no bfloat16 units: training in bf16 works, but slower than in fp32")


def has_bf16_units() -> bool:
    """Whether the CPU computes in bfloat16 itself; True where torch cannot say."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return True


def choose_threads(device: torch.device, batch_size: int, image_shape: Sequence[int]) -> None:
    """Set torch's threads for a cell on the CPU: one when a batch has few pixels.

    Threads that wait for each other then cost more than they do, badly so on busy cores (measured on
    digits), and the result no longer depends on how many cores a machine has.
    """
    few = batch_size * image_shape[1] * image_shape[2] < FEW_PIXELS
    torch.set_num_threads(1 if device.type == "cpu" and few else ALL_THREADS)


def is_memory_fault(error: BaseException) -> bool:
    """Whether a device, or the machine, had too little memory for what was asked."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # of torch, on a CPU


def describe_device(device: torch.device) -> dict[str, Any]:
    """What a record says of the device."""
    if device.type == "cuda":
        return {"type": "cuda", "name": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return {"type": "cpu", "threads": torch.get_num_threads(), "cores": os.cpu_count()}
