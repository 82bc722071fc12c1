"""What a training step receives."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B augmented training images with their labels, on the training device."""

    x: Tensor  # (B, channels, H, W) float in [0, 1]
    y: Tensor  # (B,) int64; of mixed images the label of the larger share
    index: Tensor  # (B,) int64, position in the training split
    y2: Tensor | None = None  # (B,) int64, label of the image mixed in
    lam: Tensor | None = None  # (B,) share of y, in 1/2..1

    def __len__(self) -> int:
        """B."""
        return len(self.y)

    def paired(self, term: Callable[[Tensor], Tensor]) -> Tensor:
        """`term(y)` (B,); of mixed images lam term(y) + (1 - lam) term(y2).

        For an attack that raises a function of labels: `batch.paired(lambda y: margin(logits, y))`.
        `losses.cross_entropy(logits, batch.y)` does it by itself.
        """
        if self.y2 is None or self.lam is None:
            return term(self.y)
        first = term(self.y.as_subclass(Tensor))
        return torch.lerp(term(self.y2), first, self.lam.to(first.dtype))
