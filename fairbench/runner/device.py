"""The device of a run, its numerical mode and its threads."""

import logging
import os
from collections.abc import Sequence
from typing import Any

import torch

from fairbench.core.devices import parse_device
from fairbench.core.errors import EnvironmentFault
from fairbench.registry.protocol import Precision
from fairbench.training.precision import has_tf32_units

logger = logging.getLogger(__name__)
ALL_THREADS = torch.get_num_threads()
FEW_PIXELS = 1 << 15  # per batch: digits have 4096, CIFAR-10 131072


def choose_device(name: str) -> torch.device:
    """The device for "auto", "cpu", "cuda" or "cuda:N", with torch set to float32 and repeatable kernels.

    Raises EnvironmentFault for a GPU that this process cannot use, ConfigError for an unknown name.
    """
    kind, number = parse_device(name)
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(kind)
    if kind == "cuda":
        gpus = visible_gpus()
        if not gpus or (number or 0) >= len(gpus):
            raise missing_gpu(number, gpus)
        if number is not None:
            torch.cuda.set_device(number)
            device = torch.device("cuda", number)
    # Without these, torch may use TF32 in convolutions and products, and other kernels each time.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return device


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that torch can use in this process, as CUDA_VISIBLE_DEVICES names them; else by number."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return tuple(str(number) for number in range(count))
    return tuple(name.strip() for name in given.split(","))[:count]


def missing_gpu(number: int | str | None, gpus: Sequence[str]) -> EnvironmentFault:
    """The error for a GPU that is not among the visible `gpus`; `number` None: any GPU."""
    wanted = "no CUDA device is available" if number is None else f"no GPU {number} here"
    there = f"GPUs that can be used: {', '.join(gpus)}" if gpus else "torch can use no GPU"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    limited = "" if hidden is None else f" (CUDA_VISIBLE_DEVICES={hidden})"
    instead = "choose one of these, or" if gpus else "use"
    return EnvironmentFault(
        f"{wanted}: {there}{limited}.", hint=f"{instead} --device cpu; see: fairbench doctor"
    )


def check_precision(precision: Precision, device: torch.device) -> None:
    """Raise EnvironmentFault when the device cannot train in this precision; warn where it is slow."""
    if precision in ("torch", "fp32"):
        return
    other = "take another device, or: --set protocol.precision=torch"
    if device.type == "cuda":
        if not has_tf32_units(device):
            raise EnvironmentFault(
                f"protocol.precision: {torch.cuda.get_device_name(device)} has no {precision} units.",
                hint=other,
            )
    elif precision == "tf32":
        raise EnvironmentFault("protocol.precision: tf32 is for NVIDIA GPUs, and this is a CPU.", hint=other)
    elif not has_bf16_units():
        logger.warning("this CPU has no bfloat16 units: training in bf16 works, but slower than in fp32")


def has_bf16_units() -> bool:
    """Whether the CPU computes in bfloat16 itself; True where torch has no such check."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return True


def choose_threads(device: torch.device, batch_size: int, image_shape: Sequence[int]) -> None:
    """Set the number of torch's threads for a cell: one on a CPU when a batch has few pixels.

    With so few pixels several threads are slower than one, most of all on busy cores (measured on digits).
    With one thread the result does not depend on the number of cores.
    """
    few = batch_size * image_shape[1] * image_shape[2] < FEW_PIXELS
    torch.set_num_threads(1 if device.type == "cpu" and few else ALL_THREADS)


def is_memory_fault(error: BaseException) -> bool:
    """Whether the error is that the device or the machine has too little memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)  # of torch, on a CPU


def describe_device(device: torch.device) -> dict[str, Any]:
    """The device as a record describes it."""
    if device.type == "cuda":
        return {"type": "cuda", "name": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return {"type": "cpu", "threads": torch.get_num_threads(), "cores": os.cpu_count()}
