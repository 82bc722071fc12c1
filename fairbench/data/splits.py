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
    """The result of a reader; `classes` is None if the files have no class names.

    `train` is empty for images that can only be evaluated. `notes`: what was left out or changed.
    """

    train: Split
    test: Split
    classes: tuple[str, ...] | None
    notes: tuple[str, ...] = ()


def make_split(images: np.ndarray, labels: object) -> Split:
    """A split with contiguous images and int64 labels; the content is not checked."""
    return Split(np.ascontiguousarray(images), np.asarray(labels, np.int64).reshape(-1))


def empty_split(image_shape: tuple[int, int, int]) -> Split:
    """A split without images."""
    return make_split(np.empty((0, *image_shape), np.uint8), [])


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
        raise DataError(f"{where}: images are {images.dtype}, not uint8.", hint=_to_bytes(images))
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
            hint=_from_zero(labels)
            or "labels start at 0; correct num_classes in registry.yaml, or the files",
        )
    empty = np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0)
    if len(empty):
        raise EmptyClassError(
            f"{where}: no example of class {empty[0]} ({classes[empty[0]]})"
            + (f" and of {len(empty) - 1} more classes." if len(empty) > 1 else "."),
            hint=_from_zero(labels)
            or "every class needs an example in both splits: its accuracy is undefined without one",
        )


def _from_zero(labels: np.ndarray) -> str:
    """A hint for labels that count from 1, else ""."""
    if not labels.size or labels.min() != 1:
        return ""
    return f"these labels are 1..{labels.max()}: labels count from 0, so subtract 1 from all of them"


def _to_bytes(images: np.ndarray) -> str:
    """How to make bytes of images of another type."""
    numbers = images.dtype.kind in "iuf" and images.size > 0
    low, high = (images.min(), images.max()) if numbers else (0, 0)
    if images.dtype.kind == "f" and low >= 0 and 0 < high <= 1:
        return "they are in [0, 1]: store np.rint(255 * images).astype(np.uint8)"
    if images.dtype.kind == "f" and low < 0:
        return f"they are in [{low:.3g}, {high:.3g}]: undo the normalisation, then store pixels as 0..255"
    if images.dtype.kind in "iu" and low >= 0 and high > 255:
        return f"they are in [{low}, {high}]: scale them to 0..255 and store them as uint8"
    return "store pixels as 0..255, with astype(np.uint8)"


def check_pixels(name: str, split: str, images: NDArray[np.uint8]) -> None:
    """Raise DataError if the pixels are numbers near 0 that were cast to bytes (-1 becomes 255)."""
    seen = pixel_values(images)
    if len(seen) < 2 or set(seen) <= {0, 255} or any(5 <= value <= 251 for value in seen):
        return
    raise DataError(
        f"{name}, {split} split: the only pixels are {', '.join(map(str, seen))} (of 0..255).",
        hint="these look like floats that were cast to bytes: images in [0, 1] become bytes by\n"
        "np.rint(255 * images).astype(np.uint8); undo a normalisation before",
    )


def pixel_values(images: NDArray[np.uint8]) -> list[int]:
    """The different values of all pixels, ascending."""
    parts = (images[start : start + 1000].ravel() for start in range(0, len(images), 1000))
    counts = sum((np.bincount(part, minlength=256) for part in parts), np.zeros(256, np.int64))
    return [int(value) for value in np.flatnonzero(counts)]


def shared_images(data: RawData) -> tuple[int, int]:
    """How many test images are training images too, and how many of them have another label there."""
    labels: dict[bytes, set[int]] = {}
    for image, label in zip(data.train.images, data.train.labels.tolist(), strict=True):
        labels.setdefault(_image_digest(image), set()).add(label)
    same = [
        (label, labels.get(_image_digest(image), set()))
        for image, label in zip(data.test.images, data.test.labels.tolist(), strict=True)
    ]
    return sum(bool(known) for _, known in same), sum(
        bool(known) and label not in known for label, known in same
    )


def _image_digest(image: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()


def digest_splits(train: Split, test: Split) -> str:
    """SHA-256 (hex) of both splits, train first.

    Hashed are, for each split, the line "<name> uint8 <N>x<channels>x<H>x<W>\\n", the pixels in that order,
    and the labels as 8-byte little-endian integers. Class names and file names are not part of it.
    """
    state = hashlib.sha256()
    for name, (images, labels) in (("train", train), ("test", test)):
        state.update(f"{name} uint8 {'x'.join(map(str, images.shape))}\n".encode())
        if len(labels):  # the memory of an empty array cannot be viewed as bytes
            state.update(np.ascontiguousarray(images).data.cast("B"))
            state.update(np.ascontiguousarray(labels.astype("<i8")).data.cast("B"))
    return state.hexdigest()


def held_out_count(images: int, share: float, min_per_class: int) -> int:
    """How many images of a class are held out: a share, at least `min_per_class`, at most half of them."""
    return min(max(round(share * images), min_per_class), images // 2)
