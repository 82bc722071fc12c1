"""One split as numpy arrays, what it must fulfil, and the digest that names its content."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fairbench.core.errors import DataError, EmptyClassError


class Split(NamedTuple):
    """Images and labels in their final order."""

    images: NDArray[np.uint8]  # (N, channels, H, W)
    labels: NDArray[np.int64]  # (N,)


class RawData(NamedTuple):
    """What a reader found; `classes` is None when the files do not name them."""

    train: Split
    test: Split
    classes: tuple[str, ...] | None


def make_split(images: np.ndarray, labels: object) -> Split:
    """A split with contiguous images and int64 labels; its content is not checked here."""
    return Split(np.ascontiguousarray(images), np.asarray(labels, np.int64).reshape(-1))


def channels_first(images: np.ndarray, image_shape: tuple[int, int, int]) -> np.ndarray:
    """`images` as (N, channels, H, W), also from (N, H, W, channels) and grey (N, H, W); else unchanged."""
    channels, height, width = image_shape
    if images.shape[1:] == (channels, height, width):
        return images
    if images.shape[1:] == (height, width, channels):
        return images.transpose(0, 3, 1, 2)
    if images.shape[1:] == (height, width) and channels == 1:
        return images[:, None]
    return images


def check_split(
    name: str, split: str, data: Split, image_shape: tuple[int, int, int] | None, classes: tuple[str, ...]
) -> None:
    """Nothing, or DataError (type, shape, label out of range) or EmptyClassError naming class and split.

    `image_shape` None takes any shape.
    """
    images, labels = data
    where = f"{name}, {split} split"
    if images.dtype != np.uint8:
        raise DataError(f"{where}: images are {images.dtype}, not uint8.", hint="store pixels as 0..255")
    if image_shape is not None and (images.ndim != 4 or images.shape[1:] != tuple(image_shape)):
        raise DataError(
            f"{where}: images are {images.shape[1:]}, expected (channels, height, width) = {image_shape}.",
            hint="correct image_shape in registry.yaml, or the files",
        )
    if len(images) != len(labels):
        raise DataError(f"{where}: {len(images)} images but {len(labels)} labels.")
    num_classes = len(classes)
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise DataError(
            f"{where}: label {labels[wrong[0]]} at position {wrong[0]} is outside 0..{num_classes - 1} "
            f"({len(wrong)} such labels).",
            hint="labels count from 0; correct num_classes in registry.yaml, or the files",
        )
    empty = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if len(empty):
        raise EmptyClassError(
            f"{where}: no example of class {empty[0]} ({classes[empty[0]]})"
            + (f" and of {len(empty) - 1} more classes." if len(empty) > 1 else "."),
            hint="every class needs an example in both splits: its accuracy would not exist",
        )


def digest_splits(train: Split, test: Split) -> str:
    """SHA-256 (hex) of both splits, train first.

    Each split enters as the line "<name> uint8 <N>x<channels>x<H>x<W>\\n", its pixels in that order, and its
    labels as 8-byte little-endian integers. Class names and file names do not enter.
    """
    state = hashlib.sha256()
    for name, (images, labels) in (("train", train), ("test", test)):
        state.update(f"{name} uint8 {'x'.join(map(str, images.shape))}\n".encode())
        state.update(np.ascontiguousarray(images).data.cast("B"))
        state.update(np.ascontiguousarray(labels.astype("<i8")).data.cast("B"))
    return state.hexdigest()
