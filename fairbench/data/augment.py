"""Augmentations after crop and flip: AutoAugment, Cutout, Mixup, CutMix.

Each draws random numbers for every image of an epoch, on the CPU and from named generators. It is applied to
whole batches before the attack: AutoAugment to pixels in 0..255, the others to images in [0, 1] on the
device.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fairbench.core.errors import ConfigError
from fairbench.data.batch import Batch

Seed = Callable[[str], int]
"""A function from a purpose to its seed in this epoch."""
Drawn = tuple[Tensor, ...]
"""Random draws by position in the epoch: (N, ...) each."""


class BatchAugmentation(ABC):
    """An augmentation after crop and flip: of pixels (`on_pixels`), or of whole batches."""

    on_pixels: ClassVar[bool] = False

    @abstractmethod
    def draw(self, count: int, image_shape: tuple[int, int, int], seed: Seed) -> Drawn:
        """The draws of an epoch of `count` images. Raises ConfigError for unsuitable images."""

    def pixels(self, images: Tensor, drawn: Drawn) -> Tensor:
        """Augmented uint8 images (B, channels, H, W); `drawn` has the draws of these images, on the CPU."""
        return images

    def batch(self, batch: Batch, drawn: Drawn) -> Batch:
        """The augmented batch; `drawn` has the draws of its images, on the device."""
        return batch


@dataclass(frozen=True)
class AutoAugment(BatchAugmentation):
    """One of 25 pairs of operations for each image (arXiv 1805.09501), as in torchvision."""

    on_pixels: ClassVar[bool] = True
    policy: str = "cifar10"  # or "svhn", "imagenet"

    def draw(self, count: int, image_shape: tuple[int, int, int], seed: Seed) -> Drawn:
        """Index of the pair (N,), two probabilities (N, 2) and two signs (N, 2), as in torchvision."""
        if image_shape[0] not in (1, 3):
            raise ConfigError(
                f"autoaugment needs images with 1 or 3 channels, these have {image_shape[0]}.",
                hint="choose another augmentation, for instance: --augment cutout",
            )
        rng = torch.Generator().manual_seed(seed("autoaugment"))
        which = torch.randint(len(policies(self.policy).policies), (count,), generator=rng)
        return which, torch.rand(count, 2, generator=rng), torch.randint(2, (count, 2), generator=rng)

    def pixels(self, images: Tensor, drawn: Drawn) -> Tensor:
        """Images with the same operations are transformed together, with the same result as one by one."""
        which, probability, sign = drawn
        transform = policies(self.policy)
        least = torch.tensor([[step[1] for step in pair] for pair in transform.policies])  # (25, 2)
        applied = probability <= least[which]  # (B, 2)
        code = torch.cat([which[:, None], applied, sign * applied], 1) @ torch.tensor([16, 8, 4, 2, 1])
        out = images.clone()
        for alike in sorted(set(code[applied.any(1)].tolist())):
            rows = (code == alike).nonzero().flatten()
            parameters = int(which[rows[0]]), probability[rows[0]], sign[rows[0]]
            # torchvision's own get_params draws from the global generator
            transform.get_params = lambda count, parameters=parameters: parameters
            out[rows] = transform(images[rows])
        return out


@dataclass(frozen=True)
class Cutout(BatchAugmentation):
    """A square of zeros, clipped at the border; its centre is uniform over the image (arXiv 1708.04552)."""

    side: int  # pixels

    def draw(self, count: int, image_shape: tuple[int, int, int], seed: Seed) -> Drawn:
        """Row and column of the centre: (N,) each."""
        return centres(count, image_shape, seed("cutout"))

    def batch(self, batch: Batch, drawn: Drawn) -> Batch:
        return replace(batch, x=batch.x.masked_fill(squares(drawn, self.side, batch.x), 0))


@dataclass(frozen=True)
class Mixup(BatchAugmentation):
    """lam x + (1 - lam) x' of two images of the batch, lam ~ Beta(alpha, alpha) (arXiv 1710.09412).

    One lam per batch. max(lam, 1 - lam) is used, which gives the same set of mixtures (the two images of a
    pair are exchanged), so that the own label of an image is the dominant one.
    """

    alpha: float

    def draw(self, count: int, image_shape: tuple[int, int, int], seed: Seed) -> Drawn:
        """lam (N,), of which a batch uses the first, and ranks (N,), which give the partners in a batch."""
        share, rank = partners(count, self.alpha, seed)
        return torch.maximum(share, 1 - share), rank

    def batch(self, batch: Batch, drawn: Drawn) -> Batch:
        share, rank = drawn
        lam, other = share[:1].to(batch.x.dtype).expand(len(batch)), rank.argsort()
        x = torch.lerp(batch.x[other], batch.x, lam.view(-1, 1, 1, 1))
        return replace(batch, x=x, y2=batch.y[other], lam=lam)


@dataclass(frozen=True)
class CutMix(BatchAugmentation):
    """A rectangle of each image is replaced by that of another image (arXiv 1905.04899).

    One rectangle per batch. lam is the share of pixels that an image keeps. Where the rectangle covers more
    than half, the image keeps the inside instead: the two images of a pair are exchanged.
    """

    alpha: float

    def draw(self, count: int, image_shape: tuple[int, int, int], seed: Seed) -> Drawn:
        """As for Mixup, and row and column of the centre (N,); a batch uses the first of each."""
        return (*partners(count, self.alpha, seed), *centres(count, image_shape, seed("cutmix")))

    def batch(self, batch: Batch, drawn: Drawn) -> Batch:
        share, rank, *centre = drawn
        height, width = batch.x.shape[2:]
        root = (1 - share[:1]).sqrt()
        sides = [(root * size / 2).floor().long() for size in (height, width)]
        inside = rectangle([position[:1] for position in centre], sides, sides, batch.x)  # (1, 1, H, W)
        covered = inside.to(batch.x.dtype).mean()
        swapped = covered > 0.5
        other = rank.argsort()
        x = torch.where(inside ^ swapped, batch.x[other], batch.x)
        lam = torch.maximum(covered, 1 - covered).expand(len(batch))
        return replace(batch, x=x, y2=batch.y[other], lam=lam)


def partners(count: int, alpha: float, seed: Seed) -> tuple[Tensor, Tensor]:
    """Shares (N,) ~ Beta(alpha, alpha), float64, and ranks (N,), which permute the images of a batch."""
    share = np.random.default_rng(seed("mix-share")).beta(alpha, alpha, count)
    rng = torch.Generator().manual_seed(seed("mix-partner"))
    return torch.from_numpy(share), torch.randperm(count, generator=rng)


def policies(policy: str) -> Any:
    """torchvision's transform; its `policies` are pairs of operations (name, probability, magnitude)."""
    from torchvision import transforms  # type: ignore[import-untyped]

    return transforms.AutoAugment(transforms.AutoAugmentPolicy(policy))


def build_augmentation(
    kind: str, *, policy: str | None, side: int | None, alpha: float | None
) -> BatchAugmentation | None:
    """The augmentation of a kind with its options; None where an option of 0 or None turns it off."""
    if kind == "autoaugment":
        return AutoAugment(policy or "cifar10")
    if kind == "cutout":
        return Cutout(side) if side else None
    if not alpha:
        return None
    return Mixup(alpha) if kind == "mixup" else CutMix(alpha)


def centres(count: int, image_shape: tuple[int, int, int], seed: int) -> tuple[Tensor, Tensor]:
    """Rows and columns (N,), uniform over the image."""
    rng = torch.Generator().manual_seed(seed)
    _, height, width = image_shape
    return torch.randint(height, (count,), generator=rng), torch.randint(width, (count,), generator=rng)


def squares(centre: Drawn, side: int, images: Tensor) -> Tensor:
    """Masks of squares of `side` pixels, clipped at the border: (B, 1, H, W) bool."""
    before = torch.full_like(centre[0], side // 2)
    return rectangle(centre, (before, before), (side - before,) * 2, images)


def rectangle(
    centre: Sequence[Tensor], before: Sequence[Tensor], after: Sequence[Tensor], images: Tensor
) -> Tensor:
    """Masks of the pixels centre - before .. centre + after - 1; rows and columns (B,): (B, 1, H, W) bool."""
    parts = []
    for middle, low, high, size in zip(centre, before, after, images.shape[2:], strict=True):
        position = torch.arange(size, device=images.device)
        parts.append((position >= (middle - low)[:, None]) & (position < (middle + high)[:, None]))
    return (parts[0][:, :, None] & parts[1][:, None, :])[:, None]
