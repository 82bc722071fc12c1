"""Operations of a step, counted, and the limits of the device, measured."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from fairbench.registry.protocol import Precision
from fairbench.training.precision import arithmetic, computing

REPEATS = 5
SIZES = {"cuda": 8192, "cpu": 1024}  # of the matrices that are multiplied


def synchronise(device: torch.device) -> None:
    """Wait until the device has finished all queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class OperationCounter(TorchDispatchMode):
    """Adds up operations by torch's own formulas. (torch's FlopCounterMode cannot follow autograd.grad.)"""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        formula = flop_registry.get(function._overloadpacket)
        if formula is not None:
            self.total += formula(*args, **(kwargs or {}), out_val=output)
        return output


def operations(work: Callable[[], object]) -> int:
    """Floating-point operations of convolutions and products in `work`; a multiply and an add are two."""
    with OperationCounter() as counter:
        work()
    return counter.total


def forward_operations(model: nn.Module, images: Tensor) -> int:
    """Operations of one forward pass of all `images`."""
    with torch.no_grad():
        return operations(lambda: model(images))


def median_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Median time of `work` after one run to warm up."""
    work()
    seconds = []
    for _ in range(REPEATS):
        synchronise(device)
        began = time.perf_counter()
        work()
        synchronise(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def peak(precision: Precision, device: torch.device) -> float:
    """Operations per second of a large matrix product of random numbers in this precision."""
    size = SIZES[device.type]
    chosen = arithmetic(precision, device)
    dtype = torch.bfloat16 if chosen == "bf16" else torch.float32
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    with computing("tf32" if chosen == "tf32-conv" else chosen):
        return 2 * size**3 / median_seconds(lambda: one @ other, device)


def bandwidth(device: torch.device) -> float:
    """Bytes per second of a large copy on the device, read and written counted."""
    source = torch.zeros((1 << 30 if device.type == "cuda" else 1 << 27) // 4, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / median_seconds(lambda: target.copy_(source), device)
