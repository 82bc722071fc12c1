"""The networks that a training step uses: one for the attack, one for the loss, in the run's arithmetic.

The attack runs on a copy with BatchNorm folded into the convolutions, because BatchNorm does not change
during an attack; the loss runs on the network itself. Both return logits in float32. Methods need not support
this.
"""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fairbench.data.batch import Batch
from fairbench.models.folding import channels_last_pays
from fairbench.models.twin import FoldedTwin
from fairbench.registry.protocol import Protocol
from fairbench.training.precision import Arithmetic, arithmetic
from fairbench.training.schedule import steps_per_epoch

log = logging.getLogger(__name__)

Forward = Callable[..., Any]
WORTH_COMPILING = 6000
"""With so many steps compiling saves time: it takes 27 s and saves 4 ms per step (ResNet-18, H200)."""


@dataclass(frozen=True)
class Speedups:
    """What makes a step faster without a change of its formulas; `Speedups.none()` is the plain step.

    `channels_last`: images and convolutions in that layout. `folded`: the attack uses a copy of the network
    with BatchNorm folded into the convolutions. `fused`: one kernel for the optimiser. `compiled`:
    torch.compile of the network. `graph`: the step as one CUDA graph.
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
            channels_last=channels_last_pays(
                device, float32=arithmetic(protocol.precision, device) == "fp32"
            ),
            compiled=cuda and num_steps >= WORTH_COMPILING,
            graph=cuda,
        )


class Networks:
    """The networks of a step made from `model`, for batches like `example` (B, channels, H, W)."""

    def __init__(self, model: nn.Module, example: Tensor, chosen: Arithmetic, speedups: Speedups) -> None:
        self.model, self.arithmetic, self.speedups = model, chosen, speedups
        if speedups.compiled:
            torch.compiler.reset()  # networks compiled for an earlier cell count against a limit
        self.shape = example.shape
        self.dtype = torch.bfloat16 if chosen == "bf16" else None
        self._twin: FoldedTwin | None = None
        if speedups.channels_last and example.dim() == 4:
            model.to(memory_format=torch.channels_last)
        if speedups.folded:
            try:
                last = speedups.channels_last
                self._twin = FoldedTwin(model, example, self.dtype, channels_last=last)
            except Exception as error:  # a network of a plugin may not be copyable
                log.warning(
                    "the attack runs on the network itself, not on a folded copy: %s", first_line(error)
                )
        if self._twin is not None:
            network = self._twin.network
            network.forward = self._forward(network.forward)
        self._outer = self._forward(model.forward)

    def attacked(self) -> nn.Module:
        """The network for an attack in eval mode, with the current weights."""
        if self._twin is None:
            return self.model
        self._twin.refresh()
        return self._twin.network

    def trained(self) -> AbstractContextManager[None]:
        """A block in which the network in training computes in the run's arithmetic."""
        return replaced_forward(self.model, self._outer)

    def laid_out(self, batch: Batch) -> Batch:
        """The batch with its images in the memory layout of the network."""
        return replace(batch, x=self.images(batch.x))

    def images(self, x: Tensor) -> Tensor:
        """Images in the memory layout of the network."""
        if self.speedups.channels_last and x.dim() == 4:
            return x.contiguous(memory_format=torch.channels_last)
        return x

    def _forward(self, run: Forward) -> Forward:
        """`run` in the run's arithmetic; compiled for batches of the usual size."""
        fast = compiled(run, self.speedups.channels_last) if self.speedups.compiled else run
        return NetworkForward(self, run, fast)


class NetworkForward:
    """The forward `run` of a network in the precision of `networks`; with `fast`, a compiled form of it.

    A deep copy of the network gets a deep copy of this, which runs the copy and not the network.
    """

    def __init__(self, networks: Networks, run: Forward, fast: Forward | None = None) -> None:
        self.networks, self.run = networks, run
        self.fast = run if fast is None else fast

    def __call__(self, x: Tensor, *further: Any, **options: Any) -> Tensor:
        usual = x.shape == self.networks.shape and not further and not options
        with autocast(x.device, self.networks.dtype):
            try:
                logits = self.fast(self.networks.images(x)) if usual else self.run(x, *further, **options)
            except Exception as error:  # of the compiler; one of the network is raised again below
                if self.fast is self.run:
                    raise
                log.warning("the network runs without compilation: %s", first_line(error))
                self.fast = self.run
                logits = self.run(x, *further, **options)
        return logits if logits.dtype == torch.float64 else logits.float()

    def __deepcopy__(self, memo: dict[int, Any]) -> "NetworkForward":
        return NetworkForward(self.networks, copy.deepcopy(self.run, memo))


def autocast(device: torch.device, dtype: torch.dtype | None) -> Any:
    """A block in which convolutions and matrix products are computed in `dtype`."""
    if dtype is None:
        return nullcontext()
    # Without the cache: a CUDA graph would keep the cast weights of the step that was captured.
    return torch.autocast(device.type, dtype, cache_enabled=False)


def compiled(run: Forward, channels_last: bool) -> Forward:
    """`run` compiled for one shape of images; the compiler may use channels last only if that is on."""
    from torch._inductor import config

    # The protocol decides on float32, not the compiler.
    warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
    options: Any = {"layout_optimization": channels_last}
    if hasattr(config, "deterministic"):
        # Otherwise it may choose kernels by timing, and a resumed run would differ.
        options["deterministic"] = True
    return torch.compile(run, dynamic=False, options=options)


class ReplacedForward:
    """A temporary `forward` of a network; deep copies of the network use the one `before`."""

    def __init__(self, forward: Forward, before: Forward) -> None:
        self.forward, self.before = forward, before

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self.forward(*inputs, **options)

    def __deepcopy__(self, memo: dict[int, Any]) -> Forward:
        return copy.deepcopy(self.before, memo)


@contextmanager
def replaced_forward(model: nn.Module, forward: Forward) -> Iterator[None]:
    """A block in which the model has another forward; deep copies of it keep the one that it had."""
    own = vars(model).get("forward")
    other = forward if isinstance(forward, NetworkForward) else ReplacedForward(forward, model.forward)
    setattr(model, "forward", other)  # noqa: B010 (mypy: a method cannot be assigned)
    try:
        yield
    finally:
        del model.forward
        if own is not None:
            setattr(model, "forward", own)  # noqa: B010


def first_line(error: BaseException) -> str:
    """Type and first line of an error."""
    text = str(error).splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def is_finite(model: nn.Module) -> bool:
    """Whether all parameters are finite. The last step of an epoch can break them after a finite loss."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())
