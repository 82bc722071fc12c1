"""What an attack may ask of a model: logits, and the gradient of a value with respect to the images."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Values = Callable[[Tensor], Tensor]
"""From logits (B, C) to one value for each image (B,)."""


@dataclass
class Passes:
    """Images that went through a network forwards and backwards."""

    forward: int = 0
    backward: int = 0


@dataclass
class Network:
    """A frozen model in eval mode that counts its passes.

    Images come and gradients go in the dtype of the images; the model computes in `dtype` (None: that
    of the images), logits come back in at least float32.
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
        """Logits (B, C), `values` of them (B,), and the gradient of each value at its image (B, ...)."""
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
