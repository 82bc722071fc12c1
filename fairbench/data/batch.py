"""The batch of a training step."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B augmented training images with their labels, on the training device."""

    x: Tensor  # (B, channels, H, W) float in [0, 1]
    y: Tensor  # (B,) int64; for mixed images the label with the larger share
    index: Tensor  # (B,) int64, position in the training split
    y2: Tensor | None = None  # (B,) int64, label of the second image; None without mixing
    lam: Tensor | None = None  # (B,) share of y, in 0.5..1

    def __len__(self) -> int:
        """B."""
        return len(self.y)

    def paired(self, term: Callable[[Tensor], Tensor]) -> Tensor:
        """`term(y)` (B,); for mixed images lam * term(y) + (1 - lam) * term(y2).

        For an attack on another function of the labels: `batch.paired(lambda y: margin(logits, y))`.
        `losses.cross_entropy(logits, batch.y)` supports mixed images itself.
        """
        if self.y2 is None or self.lam is None:
            return term(self.y)
        first = term(self.y.as_subclass(Tensor))
        return torch.lerp(term(self.y2), first, self.lam.to(first.dtype))
