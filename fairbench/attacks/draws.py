"""Random draws for attacks, from one generator with a name."""

import torch
from torch import Tensor

from fairbench.attacks.labels import Labels, dominant


class Draws:
    """Draws on one device; the same seed gives the same draws on the same kind of device."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device)
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Begin anew with `seed`."""
        self.generator.manual_seed(seed)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal values in the shape and dtype of `like`."""
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype, device=like.device)

    def uniform(self, like: Tensor) -> Tensor:
        """Values uniform in [0, 1) in the shape and dtype of `like`."""
        return torch.rand(like.shape, generator=self.generator, dtype=like.dtype, device=like.device)

    def other_class(self, label: Tensor, num_classes: int) -> Tensor:
        """For each label (B,) one of the `num_classes` - 1 other classes, all equally likely.

        Of mixed images it is neither of both labels, where there is a third class.
        """
        first = dominant(label)
        drawn = self._below(num_classes - 1, first)
        drawn = drawn + (drawn >= first).to(first.dtype)
        if not isinstance(label, Labels) or num_classes < 3:
            return drawn
        # Who drew the second label draws again, among the rest: then all of the rest are equally likely.
        low, high = torch.minimum(first, label.second), torch.maximum(first, label.second)
        again = self._below(num_classes - 2, first)
        again = again + (again >= low).to(first.dtype)
        again = again + (again >= high).to(first.dtype)
        return torch.where(drawn == label.second, again, drawn)

    def choice(self, weight: Tensor) -> Tensor:
        """For each row of `weight` (B, C), >= 0, one class with probability in proportion: (B,) int64.

        A row of zeros gives class 0. Unlike `torch.multinomial` it never asks the device for a value.
        """
        race = torch.empty_like(weight, dtype=torch.float64).exponential_(generator=self.generator)
        return (weight.double() / race).argmax(1)

    def _below(self, limit: int, like: Tensor) -> Tensor:
        return torch.randint(
            limit, like.shape, generator=self.generator, dtype=like.dtype, device=like.device
        )
