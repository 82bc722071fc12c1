"""Random starts keyed by image, so that batch size, sharding and device do not matter."""

from collections.abc import Callable

import torch
from torch import Tensor

from fairbench.attacks.draws import Draws
from fairbench.core.seeds import derive_seed

BLOCK = 64


class ImageDraws(Draws):
    """Draws for the test images `first`, `first + 1`, ...: the same for an image in any batch.

    Drawn on the CPU in blocks of 64 images, each with its own seed.
    """

    def __init__(self, seed: int, first: int) -> None:
        super().__init__(seed, torch.device("cpu"))
        self.seed = seed
        self.first = first

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal values, one image per row of `like` (B, ...)."""
        return self._by_image(torch.randn, like)

    def uniform(self, like: Tensor) -> Tensor:
        """Values uniform in [0, 1), one image per row of `like` (B, ...)."""
        return self._by_image(torch.rand, like)

    def _by_image(self, drawn: Callable[..., Tensor], like: Tensor) -> Tensor:
        last = self.first + len(like)
        blocks = []
        for block in range(self.first // BLOCK, (last - 1) // BLOCK + 1):
            self.generator.manual_seed(derive_seed(self.seed, "start", block))
            blocks.append(drawn(BLOCK, *like.shape[1:], generator=self.generator))
        begin = self.first % BLOCK
        return torch.cat(blocks)[begin : begin + len(like)].to(like)
