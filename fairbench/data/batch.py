"""What a training step receives."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """B augmented training images with their labels, on the training device."""

    x: Tensor  # (B, channels, H, W) float in [0, 1]
    y: Tensor  # (B,) int64
    index: Tensor  # (B,) int64, position in the training split
    y2: Tensor | None = None  # (B,) int64, label of the image mixed in
    lam: Tensor | None = None  # (B,) share of the first image, in [0, 1]

    def __len__(self) -> int:
        """B."""
        return len(self.y)
