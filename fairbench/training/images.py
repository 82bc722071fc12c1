"""The images of a run: those trained on, in the order and augmentation of an epoch, and those held out."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol as Interface

import torch
from torch import Tensor

from fairbench.data.augment import BatchAugmentation, build_augmentation
from fairbench.data.batch import Batch
from fairbench.data.images import ImageSet, to_unit
from fairbench.data.stream import CropFlip, EpochStream
from fairbench.registry.components import Augment


class Batches(Interface):
    """A sequence of batches, each made when it is needed."""

    @property
    def batch_size(self) -> int:
        """Images of every batch but the last, which may be smaller."""

    def __len__(self) -> int:
        """Number of batches."""

    def batch(self, i: int) -> Batch:
        """Batch `i`, from 0."""


class PlainBatches:
    """Batches of the images with `index` (n,), in this order and without augmentation."""

    def __init__(self, images: ImageSet, index: Tensor, batch_size: int, dtype: torch.dtype) -> None:
        self.images, self.batch_size, self.dtype = images, batch_size, dtype
        self.parts = torch.split(index, batch_size) if len(index) else ()

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.parts)

    def __iter__(self) -> Iterator[Batch]:
        """All batches in order."""
        return (self.batch(i) for i in range(len(self)))

    def batch(self, i: int) -> Batch:
        """Batch `i`, on the device of the images."""
        index = self.parts[i].to(self.images.device)
        return Batch(to_unit(self.images.images[index], self.dtype), self.images.labels[index], index)


@dataclass
class TrainingImages:
    """Splits `images` into those to train on, where `keep` (N,) bool is true, and the others, held out.

    Images to train on are cropped and flipped, then augmented further by `augment`.
    """

    images: ImageSet
    seed: int
    batch_size: int
    crop_flip: CropFlip
    keep: Tensor | None
    augment: Augment | None
    dtype: torch.dtype

    def epoch(self, number: int, *, mixed: bool = True) -> EpochStream:
        """The batches to train on in an epoch (from 1); without `augment` unless `mixed`."""
        return EpochStream(
            self.images,
            seed=self.seed,
            epoch=number,
            batch_size=self.batch_size,
            augmentation=self.crop_flip,
            dtype=self.dtype,
            keep=self.keep,
            augment=self._batch_augmentation() if mixed else None,
        )

    def held_out(self) -> PlainBatches:
        """The held-out images; no batch when `keep` is None."""
        chosen = torch.zeros(len(self.images), dtype=torch.bool) if self.keep is None else ~self.keep
        return PlainBatches(self.images, chosen.nonzero().flatten(), self.batch_size, self.dtype)

    def without_augmentation(self) -> PlainBatches:
        """The images to train on, as they are."""
        chosen = torch.ones(len(self.images), dtype=torch.bool) if self.keep is None else self.keep
        return PlainBatches(self.images, chosen.nonzero().flatten(), self.batch_size, self.dtype)

    def _batch_augmentation(self) -> BatchAugmentation | None:
        if self.augment is None:
            return None
        chosen = self.augment.fitted("", self.images.image_shape)
        return build_augmentation(chosen.kind, policy=chosen.policy, side=chosen.side, alpha=chosen.alpha)
