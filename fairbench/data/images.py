"""One split as uint8 tensors on the device, and checks of images and labels."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fairbench.core.errors import DataError, EmptyClassError
from fairbench.data.manifest import (
    EMBEDDED,
    SPLITS,
    data_folder,
    file_digest,
    require_manifest,
    require_training_images,
)
from fairbench.data.readers import read_digits
from fairbench.data.splits import Split, check_split, digest_splits

log = logging.getLogger(__name__)
DIGITS_SHAPE = (1, 8, 8)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one split (or a subset) in data set order, in the memory of one device."""

    images: Tensor  # (N, channels, H, W) uint8
    labels: Tensor  # (N,) int64
    num_classes: int
    classes: tuple[str, ...]  # in label order

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return self.images.device

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same images on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


def load_images(
    name: str,
    split: str,
    *,
    root: Path,
    device: torch.device | str = "cpu",
    reader: str | None = None,
    subset_per_class: int | None = None,
    expected_digest: str | None = None,
) -> ImageSet:
    """The "train" or "test" split of `name`, on `device`.

    With reader "digits" the images are part of scikit-learn and need no preparation; all others are read
    from ROOT/<name>. `subset_per_class` keeps that many images of each class, the first in data set order (or
    all of a smaller class). Raises DataMissingError when not prepared, DataError when damaged or when the
    digest is not `expected_digest`, EmptyClassError when a class has no example.
    """
    if split not in SPLITS:
        raise DataError(f"{name} has no split {split!r}.", hint="splits are train and test")
    if reader == EMBEDDED:
        data, classes, digest = read_embedded(split)
    else:
        data, classes, digest = read_prepared(name, split, root)
    if expected_digest is not None and digest != expected_digest:
        raise DataError(
            f"{name}: the images have digest {digest[:12]}, expected {expected_digest[:12]}.",
            hint="they changed since the run was planned, or are another version of the data set; "
            "plan again, or prepare the official images",
        )
    chosen = first_per_class(data.labels, subset_per_class)
    part = Split(
        np.array(data.images[chosen]), np.array(data.labels[chosen])
    )  # copies, not views of the memory map
    check_split(name, split, part, None, classes)
    images, labels = torch.from_numpy(part.images), torch.from_numpy(part.labels)
    return ImageSet(images.to(device), labels.to(device), len(classes), classes)


def read_embedded(split: str) -> tuple[Split, tuple[str, ...], str]:
    """(split, classes, digest) of the digits in scikit-learn."""
    raw = read_digits(Path(), DIGITS_SHAPE)
    assert raw.classes is not None
    return (raw.train if split == "train" else raw.test), raw.classes, digest_splits(raw.train, raw.test)


def read_prepared(name: str, split: str, root: Path) -> tuple[Split, tuple[str, ...], str]:
    """(memory-mapped split, classes, digest) of a prepared data set.

    Raises DataError when a file of the split differs from the one that was prepared.
    """
    manifest = require_manifest(root, name)
    if split == "train":
        require_training_images(manifest)
    folder = data_folder(root, name)
    count = manifest.size(split)
    prepare_again = f"prepare it again: fairbench prepare {name} --data {root}"
    arrays: dict[str, np.ndarray] = {}
    for part, shape, dtype in (
        ("images", (count, *manifest.image_shape), np.dtype(np.uint8)),
        ("labels", (count,), np.dtype(np.int64)),
    ):
        path = folder / f"{split}_{part}.npy"
        try:
            if file_digest(path) != manifest.arrays[f"{split}_{part}"]:  # before the file is parsed
                raise DataError(
                    f"{path} is damaged: its SHA-256 is not the one in its manifest.",
                    hint=f"it changed since it was prepared; {prepare_again}",
                )
            arrays[part] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{path} cannot be read: {error}.",
                hint=f"the file is damaged or missing; {prepare_again}",
            ) from error
        if arrays[part].shape != shape or arrays[part].dtype != dtype:
            raise DataError(
                f"{path} holds {arrays[part].dtype} {arrays[part].shape}, its manifest has {dtype} {shape}.",
                hint=f"the files do not belong together; {prepare_again}",
            )
    if not manifest.official:
        log.warning("%s: not the official images (digest %s)", name, manifest.digest[:12])
    return Split(arrays["images"], arrays["labels"]), manifest.classes, manifest.digest


def first_per_class(labels: np.ndarray, per_class: int | None) -> np.ndarray | slice:
    """Ascending positions of the first `per_class` items of each class; all positions for None."""
    if per_class is None:
        return slice(None)
    if per_class < 1:
        raise EmptyClassError(
            f"a subset with {per_class} images per class has no example of any class.", hint="take at least 1"
        )
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    rank = np.arange(len(labels)) - np.searchsorted(ordered, ordered, side="left")  # place in its class
    return np.sort(order[rank < per_class])


def to_unit(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 images as `dtype` in [0, 1]: exactly image / 255, rounded once, the same on every device."""
    # Dividing by a Python number makes GPUs multiply by 1/255, which differs in the last bit.
    return images.to(dtype) / torch.full((), 255.0, dtype=dtype, device=images.device)


def check_unit_range(x: Tensor) -> None:
    """Raise DataError unless images are floating-point numbers in [0, 1]."""
    if not x.is_floating_point():
        raise DataError(
            f"images are {x.dtype}, expected floats in [0, 1].", hint="divide uint8 pixels by 255"
        )
    if not bool(((x >= 0) & (x <= 1)).all()):  # false for NaN as well
        raise DataError(
            f"images are not in [0, 1]: smallest {x.min().item():.4g}, largest {x.max().item():.4g}.",
            hint="divide pixels by 255; a normalisation belongs inside the model",
        )


def check_labels(y: Tensor, num_classes: int) -> None:
    """Raise DataError unless labels are whole numbers in 0..C-1."""
    if y.is_floating_point() or y.dtype == torch.bool or y.ndim != 1:
        raise DataError(
            f"labels are {y.dtype} of shape {tuple(y.shape)}, expected whole numbers of shape (N,)."
        )
    wrong = (y < 0) | (y >= num_classes)
    if bool(wrong.any()):
        first = int(wrong.nonzero()[0])
        raise DataError(
            f"label {y[first].item()} at position {first} is outside 0..{num_classes - 1}.",
            hint="labels start at 0; check that the model was trained on this data set",
        )
