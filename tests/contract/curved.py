"""A network for tests of searches, whose logits are the same bits in every batch."""

import math

import torch
from torch import nn


class RowNet(nn.Module):
    """Curved, in float64; sums each image by itself. `first` and `second` scale its two layers."""

    def __init__(self, shape, classes, *, width=16, first=1.5, second=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        size = math.prod(shape)
        self.first = first * torch.randn(width, size, generator=generator, dtype=torch.float64) / size**0.5
        self.second = second * torch.randn(classes, width, generator=generator, dtype=torch.float64)

    def forward(self, x):
        hidden = torch.tanh((x.flatten(1)[:, None] * self.first).sum(2))
        return (hidden[:, None] * self.second).sum(2)
