"""Reader of `.npz` files: a user's own arrays, in the naming of Keras or of MedMNIST."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.npyio import NpzFile

from fairbench.core.errors import DataError, DataMissingError
from fairbench.core.file_kinds import file_kind
from fairbench.data.splits import RawData, Split, channels_first, empty_split, make_split

Shape = tuple[int, int, int]
NAMINGS = (("x_{}", "y_{}"), ("{}_images", "{}_labels"))  # Keras; MedMNIST. Images and labels of a split
TESTS = ("test", "val")  # the first one that the file has is the test split
NEEDED = (
    "needed: x_train, y_train, x_test, y_test (images uint8), optionally classes; the names of MedMNIST\n"
    "(train_images, train_labels, ...) are read too, and without training images the data can be evaluated"
)


class SplitKeys(NamedTuple):
    """The names of the arrays of one split."""

    images: str
    labels: str


def read_npz(source: Path, image_shape: Shape) -> RawData:
    """A user's .npz: x_train, y_train, x_test, y_test (channels first or last), optionally `classes`."""
    if not source.is_file():
        raise DataMissingError(f"there is no file {source}.", hint="correct the path in registry.yaml")
    try:
        file = np.load(source, allow_pickle=False)
    except Exception as error:  # a damaged zip may raise any class
        kind = file_kind(source)
        reason = f"it is {kind}" if kind else "it is damaged, or no file of numpy"
        raise DataError(f"{source} cannot be read: {reason}.", hint="write it with numpy.savez") from error
    if not isinstance(file, NpzFile):
        raise DataError(
            f"{source} holds one array, without names.", hint=f"write it with numpy.savez\n{NEEDED}"
        )
    with file:
        return read_arrays(source, file, image_shape)


def read_arrays(source: Path, file: NpzFile, image_shape: Shape) -> RawData:
    """The data set in an open file."""
    notes: list[str] = []
    keys = find_keys(source, file.files)
    if "train" not in keys:
        notes.append("there are no training images: these images can be evaluated, not trained on")
    if "test" not in keys:
        notes.append(f"the test split is {keys['val'].images}")
    elif "val" in keys:
        notes.append(f"not read: {keys['val'].images} and {keys['val'].labels}")
    test = keys.get("test") or keys["val"]
    train_split = empty_split(image_shape)
    if "train" in keys:
        train_split = read_split(source, file, keys["train"], image_shape)
    return RawData(
        train_split, read_split(source, file, test, image_shape), read_classes(source, file), tuple(notes)
    )


def find_keys(source: Path, files: list[str]) -> dict[str, SplitKeys]:
    """The arrays of "train", "test" and "val", whichever there are; a test split is there.

    Raises DataError with the names in the file.
    """
    names = {name.lower(): name for name in files}
    held = f"it holds: {', '.join(sorted(files)) or 'nothing'}"
    for images, labels in NAMINGS:
        keys = {}
        for split in ("train", *TESTS):
            pair = images.format(split), labels.format(split)
            missing = [key for key in pair if key not in names]
            if len(missing) == 1:
                raise DataError(f"{source} has no array {missing[0]!r}; {held}.", hint=NEEDED)
            if not missing:
                keys[split] = SplitKeys(names[pair[0]], names[pair[1]])
        if keys and not keys.keys() & {*TESTS}:
            raise DataError(f"{source} has no array {images.format('test')!r}; {held}.", hint=NEEDED)
        if keys:
            return keys
    raise DataError(f"{source} has no array 'x_test'; {held}.", hint=NEEDED)


def read_array(source: Path, file: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    """One array of the file. Raises DataError for Python objects, which only a pickle can hold."""
    try:
        return file[key]
    except Exception as error:  # a damaged zip may raise any class
        objects = isinstance(error, ValueError) and "pickle" in str(error)
        reason = "it holds Python objects, which are not loaded" if objects else f"{error}"
        hint = "store numbers, or text as np.array(names, dtype=str)" if objects else "write the file again"
        raise DataError(f"{source}: the array {key!r} cannot be read: {reason}.", hint=hint) from error


def read_split(source: Path, file: Mapping[str, np.ndarray], keys: SplitKeys, image_shape: Shape) -> Split:
    """One split, with its labels checked."""
    labels = read_array(source, file, keys.labels)
    fault = labels_fault(labels)
    if fault:
        raise DataError(f"{source}: {keys.labels} {fault[0]}.", hint=fault[1])
    return make_split(channels_first(read_array(source, file, keys.images), image_shape), labels)


def labels_fault(labels: np.ndarray) -> tuple[str, str] | None:
    """What is wrong with the type or the shape of labels, and a hint; else None."""
    if labels.ndim == 0:
        return "is a single value", "labels are 0, 1, ..., one for each image"
    if labels.size > len(labels):  # (N, 1) is read too
        rows, shape = labels.reshape(len(labels), -1), "x".join(map(str, labels.shape))
        flags = labels.dtype.kind in "biuf" and bool(np.isin(labels, (0, 1)).all())
        if flags and bool((rows.sum(1) == 1).all()):
            hint = "labels are 0, 1, ...: store y.argmax(axis=1)"
            return f"is one-hot, {shape}: one column for each class, not one number for each image", hint
        if flags:
            hint = "fairbench needs exactly one class for each image"
            return f"is {shape} with several classes for an image", hint
        return f"is {shape}, not one number for each image", "labels are 0, 1, ..., one for each image"
    if labels.dtype.kind in "US":
        hint = "store positions: classes, y = np.unique(y, return_inverse=True)"
        return (
            f"holds text ({str(labels.flat[0])!r}, ...), not whole numbers" if labels.size else "is empty",
            hint,
        )
    if labels.dtype.kind not in "iu":
        return f"holds {labels.dtype}, not whole numbers", "labels are 0, 1, ...: store y.astype(np.int64)"
    return None


def read_classes(source: Path, file: NpzFile) -> tuple[str, ...] | None:
    """The names in the array `classes`, which may be bytes; None without it."""
    if "classes" not in file.files:
        return None
    names = read_array(source, file, "classes")
    if names.ndim != 1:
        raise DataError(
            f"{source}: classes has shape {names.shape}, not one name for each class.",
            hint="store np.array([name of class 0, name of class 1, ...])",
        )
    try:
        return tuple(
            name.decode("utf-8").rstrip("\0") if isinstance(name, bytes) else str(name) for name in names
        )
    except UnicodeDecodeError as error:
        raise DataError(f"{source}: classes holds bytes that are not UTF-8.", hint="store text") from error
