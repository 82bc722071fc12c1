"""The stream of one epoch: the order of the images, their crops, flips and other augmentations.

Order and draws depend only on (seed, epoch) and the number of images, so all methods with one seed get the
same stream; its digest is stored in the record. Draws are made on the CPU, each kind with its own generator.
They are applied on the device, one batch at a time; AutoAugment is applied on the CPU, many batches at a
time, so that every device gets the same images.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fairbench.core.errors import ConfigError, DataError
from fairbench.core.seeds import derive_seed
from fairbench.data.augment import BatchAugmentation, Drawn
from fairbench.data.batch import Batch
from fairbench.data.images import ImageSet, to_unit

PADDINGS = ("zero", "reflect")
AHEAD = 4096  # images that are augmented on the CPU at a time


@dataclass(frozen=True, kw_only=True)
class CropFlip:
    """Random crop of the padded image, then a random horizontal flip."""

    crop_padding: int = 0  # pixels added at each side before the crop; 0: no crop
    padding: str = "zero"  # or "reflect" (without repeating the edge pixel)
    flip: bool = False  # with probability 1/2

    def __post_init__(self) -> None:
        """Raises ConfigError for a negative or an unknown padding."""
        if self.crop_padding < 0:
            raise ConfigError(f"augmentation.crop_padding is {self.crop_padding}, expected 0 or more pixels.")
        if self.padding not in PADDINGS:
            raise ConfigError(
                f"augmentation.padding is {self.padding!r}.", hint=f"expected one of: {', '.join(PADDINGS)}"
            )


class EpochStream:
    """The batches of one epoch. A smaller last batch is kept, even with a single image.

    `keep` (N,) bool is false for held-out images; the other images keep their order and their draws. Offsets
    are those of the crop's corner in the padded image, 0..2 * crop_padding. `augment` is applied after crop
    and flip.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        seed: int,
        epoch: int,
        batch_size: int,
        augmentation: CropFlip,
        dtype: torch.dtype = torch.float32,
        keep: Tensor | None = None,
        augment: BatchAugmentation | None = None,
    ) -> None:
        _, height, width = images.image_shape
        if batch_size < 1:
            raise ConfigError(f"batch_size is {batch_size}, expected at least 1.")
        if augmentation.padding == "reflect" and augmentation.crop_padding >= min(height, width):
            raise ConfigError(
                f"crop_padding {augmentation.crop_padding} is too large to reflect {height}x{width} images.",
                hint=f"reflect needs at most {min(height, width) - 1}; or set padding: zero",
            )
        self.images, self.batch_size, self.augmentation, self.dtype = images, batch_size, augmentation, dtype
        self.augment = augment
        order, offset, flip = draw(len(images), seed, epoch, augmentation)
        drawn: Drawn = ()
        if augment is not None:
            drawn = augment.draw(
                len(images), images.image_shape, lambda purpose: derive_seed(seed, "data", epoch, purpose)
            )
        if keep is not None:
            kept = checked_keep(keep, len(images))[order]
            order, offset, flip = order[kept], offset[kept], flip[kept]
            drawn = tuple(part[kept] for part in drawn)
        self.order = order  # (n,) int64, on the CPU: positions of the images in the data set
        self.offset = offset  # (n, 2) int64: rows, columns
        self.flip = flip  # (n,) bool
        self.drawn = drawn  # (n, ...) each: the draws of `augment`
        # One transfer per epoch, so that no batch waits for the CPU.
        self.on_device = tuple(part.to(images.device) for part in (offset, flip, *drawn))
        self.order_on_device = order.to(images.device, copy=True)
        self.replaced = False  # whether images were put in place of those of `order`
        self._ahead: tuple[int, Tensor] | None = None  # first position, pixels

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.order) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """All batches in order."""
        return (self.batch(i) for i in range(len(self)))

    def replace(self, i: int, index: Tensor) -> None:
        """Put the images with `index` (B,), on the device, in place of those of batch `i`.

        Crops, flips and other draws stay those of the place in the epoch.
        """
        self.replaced, self._ahead = True, None
        self.order_on_device[i * self.batch_size : (i + 1) * self.batch_size] = index

    def batch(self, i: int) -> Batch:
        """Batch `i`, augmented on the device. Raises IndexError outside 0..len-1."""
        if not 0 <= i < len(self):
            raise IndexError(f"batch {i} of {len(self)}")
        part = slice(i * self.batch_size, (i + 1) * self.batch_size)
        index = self.order_on_device[part]
        offset, flip, *drawn = (values[part] for values in self.on_device)
        if self.augment is not None and self.augment.on_pixels:
            pixels = self._augmented_on_cpu(i)
        else:
            pixels = crop_and_flip(self.images.images[index], offset, flip, self.augmentation)
        batch = Batch(to_unit(pixels, self.dtype), self.images.labels[index], index)
        return batch if self.augment is None else self.augment.batch(batch, tuple(drawn))

    def _augmented_on_cpu(self, i: int) -> Tensor:
        """The pixels of batch `i` after `augment`, computed together with those of the batches around it.

        By itself when batches are replaced: the images of those around it are not known yet.
        """
        assert self.augment is not None
        size = self.batch_size * (1 if self.replaced else max(1, AHEAD // self.batch_size))
        start = i * self.batch_size // size * size
        if self._ahead is None or self._ahead[0] != start:
            part = slice(start, start + size)
            order = self.order_on_device[part].cpu() if self.replaced else self.order[part]
            pixels = self._images_on_cpu[order]
            pixels = crop_and_flip(pixels, self.offset[part], self.flip[part], self.augmentation)
            pixels = self.augment.pixels(pixels, tuple(values[part] for values in self.drawn))
            self._ahead = (start, pixels.to(self.images.device))
        first = i * self.batch_size - start
        return self._ahead[1][first : first + self.batch_size]

    @cached_property
    def _images_on_cpu(self) -> Tensor:
        return self.images.images.cpu()

    @cached_property
    def digest(self) -> str:
        """blake2b (32 hex digits) of all draws in order: images, offsets, flips, and those of `augment`.

        Where batches are replaced, ask for it at the end of the epoch.
        """
        state = hashlib.blake2b(digest_size=16)
        order = self.order_on_device.cpu() if self.replaced else self.order
        for part in (order, self.offset, self.flip, *self.drawn):
            state.update(f"{tuple(part.shape)}".encode())
            kind = "<f8" if part.is_floating_point() else "<i8"
            state.update(part.contiguous().numpy().astype(kind).tobytes())
        return state.hexdigest()


def draw(count: int, seed: int, epoch: int, augmentation: CropFlip) -> tuple[Tensor, Tensor, Tensor]:
    """order (N,), offset (N, 2) and flip (N,); row k belongs to the k-th image of the order."""

    def rng(purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(derive_seed(seed, "data", epoch, purpose))

    order = torch.randperm(count, generator=rng("order"))
    offset = torch.randint(2 * augmentation.crop_padding + 1, (count, 2), generator=rng("crop"))
    flip = torch.randint(2, (count,), generator=rng("flip")).bool() & augmentation.flip
    return order, offset, flip


def checked_keep(keep: Tensor, count: int) -> Tensor:
    """`keep` on the CPU. Raises DataError when it is not a mask of `count` images or keeps none."""
    if keep.dtype != torch.bool or keep.shape != (count,):
        raise DataError(
            f"keep is {keep.dtype} of shape {tuple(keep.shape)}, expected a bool mask of shape ({count},)."
        )
    if not bool(keep.any()):
        raise DataError("keep leaves no image for training.", hint="hold out a smaller share")
    return keep.cpu()


def crop_and_flip(images: Tensor, offset: Tensor, flip: Tensor, augmentation: CropFlip) -> Tensor:
    """uint8 images (B, channels, H, W), padded, cropped at `offset` (B, 2) and flipped where `flip` (B,).

    No padded image is made: each output pixel is gathered from its source pixel, with the same result.
    """
    if not augmentation.crop_padding and not augmentation.flip:
        return images
    batch, channels, height, width = images.shape
    device, padding = images.device, augmentation.crop_padding
    row = torch.arange(height, device=device) + offset[:, :1] - padding  # (B, H) source rows
    column = torch.arange(width, device=device).expand(batch, width)
    column = torch.where(flip[:, None], width - 1 - column, column) + offset[:, 1:] - padding  # (B, W)
    if augmentation.padding == "reflect":
        row, column = reflect(row, height), reflect(column, width)
    first = row.clamp(0, height - 1) * width
    source = first[:, :, None] + column.clamp(0, width - 1)[:, None, :]  # (B, H, W) in 0..H*W-1
    source = source.view(batch, 1, height * width).expand(batch, channels, height * width)
    out = images.reshape(batch, channels, height * width).gather(2, source).view(images.shape)
    if augmentation.padding == "zero" and padding:
        inside = inside_of(row, height)[:, :, None] & inside_of(column, width)[:, None, :]  # (B, H, W)
        out = out * inside[:, None]
    return out


def reflect(position: Tensor, size: int) -> Tensor:
    """Positions outside 0..size-1 mirrored at the edge pixel."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def inside_of(position: Tensor, size: int) -> Tensor:
    """Whether each position is in 0..size-1."""
    return (position >= 0) & (position < size)
