"""Random draws for attacks, from one seeded generator."""

import torch
from torch import Tensor

from fairbench.attacks.labels import Labels, dominant


class Draws:
    """Random draws on one device; the same seed gives the same draws on the same type of device."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device)
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Restart the generator with `seed`."""
        self.generator.manual_seed(seed)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal values in the shape and dtype of `like`."""
        return torch.randn(like.shape, generator=self.generator, dtype=like.dtype, device=like.device)

    def uniform(self, like: Tensor) -> Tensor:
        """Values uniform in [0, 1) in the shape and dtype of `like`."""
        return torch.rand(like.shape, generator=self.generator, dtype=like.dtype, device=like.device)

    def other_class(self, label: Tensor, num_classes: int) -> Tensor:
        """For each label (B,) one of the `num_classes` - 1 other classes, all equally likely.

        For a mixed image it is a class other than both labels, if there are at least three classes.
        """
        first = dominant(label)
        drawn = self._below(num_classes - 1, first)
        drawn = drawn + (drawn >= first).to(first.dtype)
        if not isinstance(label, Labels) or num_classes < 3:
            return drawn
        # Images that drew the second label draw again from the other classes: all are then equally likely.
        low, high = torch.minimum(first, label.second), torch.maximum(first, label.second)
        again = self._below(num_classes - 2, first)
        again = again + (again >= low).to(first.dtype)
        again = again + (again >= high).to(first.dtype)
        return torch.where(drawn == label.second, again, drawn)

    def choice(self, weight: Tensor) -> Tensor:
        """For each row of `weight` (B, C), >= 0, one class with probability in proportion: (B,) int64.

        A row of zeros gives class 0. Unlike `torch.multinomial` it never synchronises with the device.
        """
        exponential = torch.empty_like(weight, dtype=torch.float64).exponential_(generator=self.generator)
        return (weight.double() / exponential).argmax(1)  # exponential race (the Gumbel-max trick)

    def _below(self, limit: int, like: Tensor) -> Tensor:
        """Integers uniform in 0..limit-1, in the shape and dtype of `like`."""
        return torch.randint(
            limit, like.shape, generator=self.generator, dtype=like.dtype, device=like.device
        )
