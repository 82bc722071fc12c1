"""The interface of a model for attacks: logits, and gradients with respect to the images."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

BACKWARD = 1.35  # cost of a backward pass in forward passes (measured on a ResNet-18)
Values = Callable[[Tensor], Tensor]
"""A function of logits (B, C) with one value per image (B,)."""


def cost_of(forward: float, backward: float) -> float:
    """The cost of passes, in forward passes; for times only."""
    return forward + BACKWARD * backward


@dataclass
class Passes:
    """Numbers of images in forward and in backward passes."""

    forward: int = 0
    backward: int = 0

    @property
    def cost(self) -> float:
        """In forward passes; for times only."""
        return cost_of(self.forward, self.backward)


@dataclass
class Network:
    """A frozen model in eval mode that counts its passes.

    The model computes in `dtype` (None: the dtype of the images). Gradients are returned in the dtype of the
    images, logits in float32 or wider.
    """

    model: nn.Module
    dtype: torch.dtype | None = None
    passes: Passes = field(default_factory=Passes)

    def logits(self, x: Tensor) -> Tensor:
        """Logits (B, C), without a graph."""
        self.passes.forward += len(x)
        with torch.no_grad():
            return self._logits(x)

    def gradient(self, x: Tensor, values: Values) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, C), `values(logits)` (B,), and the gradient of each value at its image (B, ...)."""
        self.passes.forward += len(x)
        self.passes.backward += len(x)
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            logits = self._logits(x)
            value = values(logits)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return logits.detach(), value.detach(), gradient

    def _logits(self, x: Tensor) -> Tensor:
        logits = self.model(x if self.dtype is None else x.to(self.dtype))
        return logits if logits.dtype == torch.float64 else logits.float()
