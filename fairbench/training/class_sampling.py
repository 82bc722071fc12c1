"""The images of a batch, chosen just before its step: a class by the method's shares, then an image of it."""

from typing import Protocol as Interface

import torch
from torch import Tensor

from fairbench.attacks.draws import Draws
from fairbench.data.stream import EpochStream


class Sampler(Interface):
    """Chooses the images of an epoch, batch by batch; `order` lists which were chosen."""

    order: Tensor

    def choose(self, i: int, share: Tensor, rng: Draws) -> None:
        """Choose the images of batch `i`, with classes drawn by `share` (C,) >= 0."""


class ClassSampler:
    """Chooses the images of `stream`, with replacement, among those that it holds, on its device.

    All images of a class are drawn alike. Nothing but `order` (n,), the images chosen so far, has to be saved
    in the middle of an epoch.
    """

    def __init__(self, stream: EpochStream) -> None:
        self.stream, device = stream, stream.images.device
        index = stream.order.sort().values  # held-out images are not in it
        label = stream.images.labels.cpu()[index]
        count = torch.bincount(label, minlength=stream.images.num_classes)
        self.by_class = index[label.argsort(stable=True)].to(device)  # (n,)
        self.count, self.first = count.to(device), (count.cumsum(0) - count).to(device)  # (C,) each
        self.order = stream.order_on_device

    def choose(self, i: int, share: Tensor, rng: Draws) -> None:
        size = min(self.stream.batch_size, len(self.order) - i * self.stream.batch_size)
        weight = torch.where(self.count > 0, share.detach().double(), 0.0)
        label = rng.choice(weight.expand(size, -1))
        place = rng.uniform(torch.empty(size, dtype=torch.float64, device=label.device))
        position = (place * self.count[label]).long()  # below the count: u <= 1 - 2**-53 is exact in float64
        self.stream.replace(i, self.by_class[self.first[label] + position])
