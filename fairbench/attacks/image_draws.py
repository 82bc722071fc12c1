"""Random starts keyed by image, so that batch size, sharding and device do not matter."""

import torch
from torch import Tensor

from fairbench.attacks.draws import Draws
from fairbench.core.seeds import derive_seed

BLOCK = 64


class ImageDraws(Draws):
    """Uniform draws for the test images `first`, `first + 1`, ...: the same for an image in any batch.

    Drawn on the CPU in blocks of 64 images, each with its own seed.
    """

    def __init__(self, seed: int, first: int) -> None:
        super().__init__(seed, torch.device("cpu"))
        self.seed = seed
        self.first = first

    def uniform(self, like: Tensor) -> Tensor:
        """Values uniform in [0, 1), one image per row of `like` (B, ...)."""
        last = self.first + len(like)
        blocks = []
        for block in range(self.first // BLOCK, (last - 1) // BLOCK + 1):
            self.generator.manual_seed(derive_seed(self.seed, "start", block))
            blocks.append(torch.rand(BLOCK, *like.shape[1:], generator=self.generator))
        begin = self.first % BLOCK
        return torch.cat(blocks)[begin : begin + len(like)].to(like)
