"""What a network in training computes in: the protocol's precision on the device of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from fairbench.registry.protocol import Precision

AMPERE = (8, 0)  # compute capability of the first GPUs with TF32 and bfloat16
Arithmetic = Literal["fp32", "tf32-conv", "tf32", "bf16"]
"""fp32: float32 throughout. tf32-conv: convolutions in TF32, products in float32. tf32: both in TF32.
bf16: both in bfloat16."""


def arithmetic(precision: Precision, device: torch.device) -> Arithmetic:
    """What convolutions and products are computed in on `device`; "torch" is PyTorch's own default there."""
    if precision != "torch":
        return precision
    return "tf32-conv" if device.type == "cuda" and has_tf32_units(device) else "fp32"


def has_tf32_units(device: torch.device) -> bool:
    """Whether a CUDA device computes in TF32 and bfloat16 itself."""
    return torch.cuda.get_device_capability(device) >= AMPERE


@contextmanager
def computing(chosen: Arithmetic) -> Iterator[None]:
    """A block in which float32 products and convolutions may use TF32 according to `chosen`."""
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend, users in zip(backends, (("tf32",), ("tf32", "tf32-conv")), strict=True):
            backend.allow_tf32 = chosen in users
        yield
    finally:
        for backend, was in zip(backends, before, strict=True):
            backend.allow_tf32 = was
