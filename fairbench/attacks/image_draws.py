"""Random draws keyed by image, so that batch size, sharding, order and device do not matter."""

from collections.abc import Callable

import torch
from torch import Tensor

from fairbench.attacks.draws import Draws
from fairbench.core.seeds import derive_seed

BLOCK = 64


class ImageDraws(Draws):
    """Draws for the test images whose positions are `index`: the same for an image in any batch.

    Drawn on the CPU in blocks of 64 images, each with its own seed. `index` is (B,) int64 on the CPU.
    Draws of one `purpose` repeat; whoever needs several asks `of` for each.
    """

    def __init__(self, seed: int, index: Tensor, purpose: str = "start") -> None:
        super().__init__(seed, torch.device("cpu"))
        self.seed = seed
        self.index = index
        self.purpose = purpose

    def of(self, purpose: str) -> "ImageDraws":
        """Draws for the same images, for a purpose within this one, independent of those of every other."""
        return ImageDraws(self.seed, self.index, f"{self.purpose}/{purpose}")

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal values, one image per row of `like` (B, ...)."""
        return self._by_image(torch.randn, like)

    def uniform(self, like: Tensor) -> Tensor:
        """Values uniform in [0, 1), one image per row of `like` (B, ...)."""
        return self._by_image(torch.rand, like)

    def other_class(self, label: Tensor, num_classes: int) -> Tensor:
        """For each label (B,) one of the `num_classes` - 1 other classes, all equally likely."""
        share = self.uniform(torch.zeros(label.shape)).double()  # times C - 1 stays below C - 1 in float64
        drawn = (share * (num_classes - 1)).long().to(label)
        return drawn + (drawn >= label).to(label.dtype)

    def _by_image(self, drawn: Callable[..., Tensor], like: Tensor) -> Tensor:
        values = torch.empty(like.shape, dtype=torch.float32)
        for block in torch.unique(self.index // BLOCK).tolist():
            here = self.index // BLOCK == block
            self.generator.manual_seed(derive_seed(self.seed, self.purpose, block))
            values[here] = drawn(BLOCK, *like.shape[1:], generator=self.generator, dtype=torch.float32)[
                self.index[here] % BLOCK
            ]
        return values.to(like)
