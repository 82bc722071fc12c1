"""One split as numpy arrays: its checks, and the digest of its content."""

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
    """The result of a reader; `classes` is None if the files have no class names."""

    train: Split
    test: Split
    classes: tuple[str, ...] | None


def make_split(images: np.ndarray, labels: object) -> Split:
    """A split with contiguous images and int64 labels; the content is not checked."""
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
    """Raise DataError for a wrong type, shape or label, and EmptyClassError for a class without an example.

    With `image_shape` None any shape is allowed.
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
            hint="labels start at 0; correct num_classes in registry.yaml, or the files",
        )
    empty = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if len(empty):
        raise EmptyClassError(
            f"{where}: no example of class {empty[0]} ({classes[empty[0]]})"
            + (f" and of {len(empty) - 1} more classes." if len(empty) > 1 else "."),
            hint="every class needs an example in both splits: its accuracy is undefined without one",
        )


def digest_splits(train: Split, test: Split) -> str:
    """SHA-256 (hex) of both splits, train first.

    Hashed are, for each split, the line "<name> uint8 <N>x<channels>x<H>x<W>\\n", the pixels in that order,
    and the labels as 8-byte little-endian integers. Class names and file names are not part of it.
    """
    state = hashlib.sha256()
    for name, (images, labels) in (("train", train), ("test", test)):
        state.update(f"{name} uint8 {'x'.join(map(str, images.shape))}\n".encode())
        state.update(np.ascontiguousarray(images).data.cast("B"))
        state.update(np.ascontiguousarray(labels.astype("<i8")).data.cast("B"))
    return state.hexdigest()
