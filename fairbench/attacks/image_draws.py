"""Random draws keyed by image: independent of batch size, sharding, order and device."""

from collections.abc import Callable

import torch
from torch import Tensor

from fairbench.attacks.draws import Draws
from fairbench.core.seeds import derive_seed

GROUP_SIZE = 64  # changing it changes all draws


class ImageDraws(Draws):
    """Draws for the test images at positions `index`: the same for an image in any batch.

    Drawn on the CPU in groups of 64 images, each with its own seed. `index` is (B,) int64 on the CPU.
    Draws of one `purpose` repeat; for several independent draws, use `of` with a purpose for each.
    """

    def __init__(self, seed: int, index: Tensor, purpose: str = "start") -> None:
        super().__init__(seed, torch.device("cpu"))
        self.seed = seed
        self.index = index
        self.purpose = purpose

    def of(self, purpose: str) -> "ImageDraws":
        """Draws for the same images and the purpose "<this purpose>/<purpose>", independent of all others."""
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

    def _by_image(self, sample: Callable[..., Tensor], like: Tensor) -> Tensor:
        values = torch.empty(like.shape, dtype=torch.float32)
        for group in torch.unique(self.index // GROUP_SIZE).tolist():
            in_group = self.index // GROUP_SIZE == group
            self.generator.manual_seed(derive_seed(self.seed, self.purpose, group))
            drawn = sample(GROUP_SIZE, *like.shape[1:], generator=self.generator, dtype=torch.float32)
            values[in_group] = drawn[self.index[in_group] % GROUP_SIZE]
        return values.to(like)
