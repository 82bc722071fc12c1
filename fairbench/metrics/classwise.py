"""Class metrics: the one definition of every number that is computed from class accuracies.

The last axis of every array is the class, (..., C). A reduction removes that axis and keeps the leading
axes, such as seeds or checkpoints: (S, K, C) gives (S, K). Accuracies are in [0, 1]. Reductions raise
DataError for an array without a class axis or without a class.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairbench.core.errors import DataError, EmptyClassError

Array = NDArray[np.float64]


def class_count(label: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Number of examples of each class, (C,).

    label (N,) int. Raises DataError for a label outside 0..C-1.
    """
    return np.bincount(_labels(label, num_classes), minlength=num_classes).astype(np.int64)


def class_hits(correct: ArrayLike, label: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Number of correct examples of each class, (C,).

    correct (N,) bool, label (N,) int. Raises DataError for vectors of unequal length and for a label outside
    0..C-1.
    """
    correct, label = np.asarray(correct, dtype=bool), _labels(label, num_classes)
    if correct.shape != label.shape:
        raise DataError(f"correct {correct.shape} and label {label.shape} are not two vectors of one length.")
    return np.bincount(label[correct], minlength=num_classes).astype(np.int64)


def require_images(count: ArrayLike, class_names: Sequence[str] = ()) -> None:
    """Raise EmptyClassError, which names the class, when one of `count` (C,) is 0."""
    count = np.asarray(count)
    empty = np.flatnonzero(count == 0)
    if empty.size:
        raise EmptyClassError(
            f"{_listed(empty, class_names)} without an example among {count.sum()}: no accuracy there.",
            hint="every class of the data set needs at least one test image",
        )


def class_accuracy(hits: ArrayLike, count: ArrayLike) -> Array:
    """Accuracy of each class, (..., C) in [0, 1]; NaN for a class without an example.

    hits (..., C) correct examples, count (C,) or (..., C) all examples. Each class is divided by its own
    count, so data sets with classes of unequal size are handled correctly.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(np.true_divide(hits, count), dtype=np.float64)


def average_accuracy(hits: ArrayLike, count: ArrayLike) -> Array:
    """Share of all examples that are correct, (...) in [0, 1]; every example has the same weight.

    hits and count as in `class_accuracy`. Equals `balanced_accuracy` when all classes have the same count.
    """
    hits, count = _per_class(hits), _per_class(count)
    return np.asarray(hits.sum(axis=-1) / count.sum(axis=-1))


def balanced_accuracy(accuracy: ArrayLike) -> Array:
    """Mean of the class accuracies (..., C), (...) in [0, 1]; every class has the same weight."""
    return np.asarray(_per_class(accuracy).mean(axis=-1))


def worst_class(accuracy: ArrayLike) -> NDArray[np.intp]:
    """Index of the class with the lowest accuracy, (...) in 0..C-1; the first one in a tie."""
    return np.asarray(_per_class(accuracy).argmin(axis=-1))


def worst_class_accuracy(accuracy: ArrayLike, fraction: float | None = None) -> Array:
    """Lowest class accuracy, or the mean of the lowest `fraction` of the classes, (...) in [0, 1].

    accuracy (..., C). A fraction of 0.2 of the 200 classes of Tiny-ImageNet is the mean of the lowest 40;
    a fraction of 1 is the balanced accuracy. Sampling noise of the test images makes the value too low on
    average, and more so the closer the classes are to each other: see `stats.worst`. Raises DataError as
    `num_lowest_of` does.
    """
    accuracy = _per_class(accuracy)
    return mean_of_lowest(accuracy, num_lowest_of(accuracy.shape[-1], fraction))


def mean_of_lowest(accuracy: ArrayLike, num_lowest: int) -> Array:
    """Mean of the `num_lowest` lowest class accuracies of (..., C), (...)."""
    accuracy = _per_class(accuracy)
    if num_lowest == 1:
        return np.asarray(accuracy.min(axis=-1))
    return np.asarray(np.sort(accuracy, axis=-1)[..., :num_lowest].mean(axis=-1))


def num_lowest_of(num_classes: int, fraction: float | None) -> int:
    """Number of classes in the lowest `fraction` of them, rounded up; 1 when it is None.

    Raises DataError for a fraction outside (0, 1].
    """
    if fraction is None:
        return 1
    if not 0 < fraction <= 1:
        raise DataError(f"the fraction of worst classes is in (0, 1], not {fraction}.")
    rounding = 1e-9  # 0.29 * 100 is 28.999..., and means 29
    return max(1, math.ceil(fraction * num_classes - rounding))


def class_gap(accuracy: ArrayLike) -> Array:
    """Highest minus lowest class accuracy of (..., C), (...) in [0, 1].

    Sampling noise makes it too large on average, and more so the closer the classes are to each other.
    """
    return np.asarray(np.ptp(_per_class(accuracy), axis=-1))


def normalised_deviation(accuracy: ArrayLike) -> Array:
    """Standard deviation over the classes (denominator C) divided by their mean, (...), at least 0.

    accuracy (..., C). NaN when every class has accuracy 0. Sampling noise makes it too large on average.
    """
    accuracy = _per_class(accuracy)
    with np.errstate(invalid="ignore"):
        return np.asarray(accuracy.std(axis=-1) / accuracy.mean(axis=-1))


def gini(accuracy: ArrayLike) -> Array:
    """Gini coefficient of the class accuracies (..., C), (...) in [0, 1): 0 when all are equal.

    The mean absolute difference between two classes (of all C * C pairs) divided by twice the mean. NaN when
    every class has accuracy 0. Sampling noise makes it too large on average.
    """
    accuracy = np.sort(_per_class(accuracy), axis=-1)
    size = accuracy.shape[-1]
    weight = 2 * np.arange(1, size + 1) - size - 1  # number of classes below each minus that above it
    with np.errstate(invalid="ignore"):
        value = (accuracy * weight).sum(axis=-1) / (size * accuracy.sum(axis=-1))
    return np.asarray(np.maximum(value, 0.0))  # rounding


def harmonic_mean(accuracy: ArrayLike) -> Array:
    """Harmonic mean of the class accuracies (..., C), (...) in [0, 1]; 0 when a class has accuracy 0.

    It lies between the lowest class and the balanced mean, and low classes have most influence.
    """
    accuracy = _per_class(accuracy)
    with np.errstate(divide="ignore"):
        return np.asarray(accuracy.shape[-1] / (1 / accuracy).sum(axis=-1))


def _labels(label: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    if num_classes < 1:
        raise DataError(f"there must be at least one class, not {num_classes}.")
    label = np.asarray(label)
    if label.ndim != 1 or (label.size and label.dtype.kind not in "iu"):
        raise DataError(f"labels are a vector of integers, not {label.dtype} of shape {label.shape}.")
    outside = (label < 0) | (label >= num_classes)
    if outside.any():
        raise DataError(
            f"label {label[outside][0]} is outside 0..{num_classes - 1} "
            f"({int(outside.sum())} of {label.size} labels are).",
            hint="labels count from 0; check num_classes of the data set",
        )
    return label.astype(np.int64)


def _per_class(values: ArrayLike) -> Array:
    array = np.asarray(values)
    if array.ndim == 0 or array.shape[-1] == 0:
        raise DataError(f"class metrics need one number per class, not an array of shape {array.shape}.")
    return array


def _listed(classes: NDArray[np.intp], names: Sequence[str], limit: int = 5) -> str:
    texts = [f"{c} ({names[c]})" if c < len(names) else str(c) for c in classes[:limit].tolist()]
    more = f" and {classes.size - limit} more" if classes.size > limit else ""
    return f"class{'es' if classes.size > 1 else ''} {', '.join(texts)}{more}"
