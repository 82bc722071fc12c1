"""The network as the parts of a step see it: the same function with less arithmetic, in the precision wanted.

The attack sees a folded twin (its BatchNorms do not change during an attack); loss and evaluation-mode
measurements see the network itself. Both hand out logits in float32. A method notices nothing of it.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fairbench.data.batch import Batch
from fairbench.models.folding import channels_last_pays
from fairbench.models.twin import FoldedTwin
from fairbench.registry.protocol import Precision, Protocol
from fairbench.training.schedule import steps_per_epoch

log = logging.getLogger(__name__)

Forward = Callable[[Tensor], Tensor]
WORTH_COMPILING = 6000
"""Steps of a run from which on compiling pays: it takes 27 s and saves 4 ms of a step (ResNet-18, H200)."""


@dataclass(frozen=True)
class Speedups:
    """What makes a step faster and leaves its mathematics alone; the plain step is `Speedups.none()`.

    `channels_last`: images and convolutions in that layout. `folded`: BatchNorm folded into the convolutions
    that the attack meets. `fused`: one kernel for the optimiser. `compiled`: torch.compile of the network.
    `graph`: the step as one CUDA graph.
    """

    channels_last: bool = True
    folded: bool = True
    fused: bool = True
    compiled: bool = False
    graph: bool = False

    @classmethod
    def none(cls) -> "Speedups":
        """The plain step."""
        return cls(channels_last=False, folded=False, fused=False)

    @classmethod
    def of(cls, device: torch.device, protocol: Protocol, num_images: int) -> "Speedups":
        """Those that make a run of `num_images` images faster on `device` (benchmarks/results)."""
        cuda = device.type == "cuda"
        num_steps = protocol.epochs * steps_per_epoch(protocol, num_images)
        return cls(
            channels_last=channels_last_pays(device, float32=protocol.precision == "fp32"),
            compiled=cuda and num_steps >= WORTH_COMPILING,
            graph=cuda,
        )


class Networks:
    """What the parts of a step see of `model`, for batches like `example` (B, channels, H, W)."""

    def __init__(self, model: nn.Module, example: Tensor, precision: Precision, speedups: Speedups) -> None:
        self.model, self.precision, self.speedups = model, precision, speedups
        if speedups.compiled:
            torch.compiler.reset()  # what was compiled for an earlier cell counts against a limit
        self.shape = example.shape
        self.dtype = torch.bfloat16 if precision == "bf16" else None
        self._twin: FoldedTwin | None = None
        if speedups.channels_last and example.dim() == 4:
            model.to(memory_format=torch.channels_last)
        if speedups.folded:
            try:
                last = speedups.channels_last
                self._twin = FoldedTwin(model, example, self.dtype, channels_last=last)
            except Exception as error:  # the author's network may refuse to be copied
                log.warning(
                    "the attack runs on the network as it is, not on a folded copy: %s", first_line(error)
                )
        if self._twin is not None:
            network = self._twin.network
            network.forward = self._forward(network.forward)
        self._outer = self._forward(model.forward)

    def attacked(self) -> nn.Module:
        """The network that an attack in eval mode meets, with the weights of now."""
        if self._twin is None:
            return self.model
        self._twin.refresh()
        return self._twin.network

    @contextmanager
    def trained(self) -> Iterator[None]:
        """Inside, the network itself computes in the precision asked for."""
        own = vars(self.model).get("forward")
        set_forward(self.model, self._outer)
        try:
            yield
        finally:
            set_forward(self.model, own)

    def laid_out(self, batch: Batch) -> Batch:
        """The batch with its images in the memory layout of the network."""
        return replace(batch, x=self.images(batch.x))

    def images(self, x: Tensor) -> Tensor:
        """Images in the memory layout of the network."""
        if self.speedups.channels_last and x.dim() == 4:
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def _forward(self, run: Forward) -> Forward:
        """`run` in the precision asked for; compiled for the batches that most steps have."""
        fast = compiled(run, self.speedups.channels_last) if self.speedups.compiled else run

        def forward(x: Tensor, *further: Any, **options: Any) -> Tensor:
            nonlocal fast
            usual = x.shape == self.shape and not further and not options
            with autocast(x.device, self.dtype):
                try:
                    logits = fast(self.images(x)) if usual else run(x, *further, **options)
                except Exception as error:  # the compiler's, or the network's own, which it raises again
                    if fast is run:
                        raise
                    log.warning("the network runs as it is, not compiled: %s", first_line(error))
                    fast = run
                    logits = run(x, *further, **options)
            return logits if logits.dtype == torch.float64 else logits.float()

        return forward


def autocast(device: torch.device, dtype: torch.dtype | None) -> Any:
    """Inside, convolutions and products are in `dtype`."""
    if dtype is None:
        return nullcontext()
    # Without the cache: a graph would keep the weights of the step that was recorded.
    return torch.autocast(device.type, dtype, cache_enabled=False)


def compiled(run: Forward, channels_last: bool) -> Forward:
    """`run` compiled for one shape of images; the compiler may lay convolutions out channels last, or not."""
    from torch._inductor import config

    # It is not the compiler's to advise against float32.
    warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
    options: Any = {"layout_optimization": channels_last}
    if hasattr(config, "deterministic"):
        # Else it may choose kernels by the clock, and a resumed run would not repeat.
        options["deterministic"] = True
    return torch.compile(run, dynamic=False, options=options)


def set_forward(model: nn.Module, forward: Forward | None) -> None:
    """Give one network a forward of its own; None takes it away."""
    if forward is None:
        vars(model).pop("forward", None)
    else:
        setattr(model, "forward", forward)  # noqa: B010 (mypy: a method cannot be assigned)


def first_line(error: BaseException) -> str:
    """What went wrong, in one line."""
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Inside, float32 products and convolutions may use TF32; as before afterwards."""
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = allowed
        yield
    finally:
        for backend, was in zip(backends, before, strict=True):
            backend.allow_tf32 = was


def is_finite(model: nn.Module) -> bool:
    """Whether every parameter is a number: an epoch's last step may spoil them after its loss was fine."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())
