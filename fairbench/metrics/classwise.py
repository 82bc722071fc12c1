"""Accuracy per class, and what a table says about the lowest of them."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairbench.core.errors import DataError, EmptyClassError

ClassVector = NDArray[np.float64]


def class_accuracy(
    correct: ArrayLike, label: ArrayLike, num_classes: int, class_names: Sequence[str] = ()
) -> ClassVector:
    """Accuracy of each class, (C,) in [0, 1].

    correct (N,) bool, label (N,) int in 0..C-1. Divides by each class's own count, so unbalanced
    sets are right. Raises DataError for a label outside the classes and EmptyClassError, naming
    the class, when one has no example.
    """
    correct, label = _correct_and_label(correct, label)
    count = class_count(label, num_classes)
    require_images(count, class_names)
    hits = np.bincount(label, weights=correct, minlength=num_classes)
    return np.asarray(hits / count, dtype=np.float64)


def require_images(count: NDArray[np.int64], class_names: Sequence[str] = ()) -> None:
    """Raise EmptyClassError, naming the class, when one of `count` (C,) has no example."""
    empty = np.flatnonzero(count == 0)
    if empty.size:
        raise EmptyClassError(
            f"{_listed(empty, class_names)} without an example among {count.sum()}: no accuracy there.",
            hint="every class of the data set needs at least one test image",
        )


def class_count(label: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Number of examples of each class, (C,).

    label (N,) int. Raises DataError for a label outside 0..C-1.
    """
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
    return np.bincount(label.astype(np.int64), minlength=num_classes).astype(np.int64)


def average_accuracy(correct: ArrayLike) -> float:
    """Share of all examples that are correct, in [0, 1]; each example counts once.

    correct (N,) bool. Equals `balanced_accuracy` when the classes have equally many examples.
    Raises DataError when there is no example.
    """
    correct = np.asarray(correct, dtype=bool)
    if correct.size == 0:
        raise DataError("an average accuracy needs at least one example.")
    return float(correct.mean())


def balanced_accuracy(class_accuracy: ArrayLike) -> float:
    """Mean of the class accuracies, in [0, 1]; each class counts once."""
    return float(_class_vector(class_accuracy).mean())


def worst_class_accuracy(class_accuracy: ArrayLike) -> float:
    """Smallest class accuracy, in [0, 1].

    Biased low by the sampling noise of the test images, more so the more equal the classes are.
    """
    return float(_class_vector(class_accuracy).min())


def worst_class(class_accuracy: ArrayLike) -> int:
    """Index of the class with the smallest accuracy; the first of them in a tie."""
    return int(_class_vector(class_accuracy).argmin())


def worst_fraction_accuracy(class_accuracy: ArrayLike, fraction: float) -> float:
    """Mean accuracy of the lowest `fraction` of the classes, in [0, 1].

    0.2 on the 200 classes of Tiny-ImageNet is the mean of the lowest 40. A fraction that is no
    whole number of classes takes one class more, so that there is always at least one; 1 gives
    the balanced accuracy. Raises DataError for a fraction outside (0, 1].
    """
    vector = _class_vector(class_accuracy)
    return float(np.sort(vector)[: num_worst(fraction, vector.size)].mean())


def num_worst(fraction: float, num_classes: int) -> int:
    """How many classes the lowest `fraction` of them is, as in `worst_fraction_accuracy`."""
    if not 0 < fraction <= 1:
        raise DataError(f"the fraction of worst classes is in (0, 1], not {fraction}.")
    rounding = 1e-9  # 0.29 * 100 is 28.999..., and means 29
    return max(1, math.ceil(fraction * num_classes - rounding))


def class_gap(class_accuracy: ArrayLike) -> float:
    """Best minus worst class accuracy, in [0, 1].

    Sampling noise makes it larger than it is, more so the more equal the classes are.
    """
    return float(np.ptp(_class_vector(class_accuracy)))


def normalised_deviation(class_accuracy: ArrayLike) -> float:
    """Standard deviation over the classes (C in its denominator) divided by their mean, at least 0.

    Inflated by sampling noise. NaN when every class is at 0.
    """
    vector = _class_vector(class_accuracy)
    mean = float(vector.mean())
    return float(vector.std()) / mean if mean else math.nan


def corrected_deviation(class_accuracy: ArrayLike, class_count: ArrayLike) -> float:
    """Standard deviation over the classes with the sampling noise of the test images taken out, in [0, 0.5].

    Its square is the variance over the classes (C in its denominator) minus an unbiased estimate of what
    noise adds to it; 0 where noise alone explains what is seen. class_count (C,) images of each class.
    Raises DataError when the two do not fit or a class has no image. Source: method of moments, as for
    random effects in DerSimonian and Laird (1986), Controlled Clinical Trials 7.
    """
    vector = _class_vector(class_accuracy)
    count = np.asarray(class_count, dtype=np.float64)
    if count.shape != vector.shape or not (count >= 1).all():
        raise DataError(f"{vector.size} class accuracies need as many counts of at least 1, not {count}.")
    # n - 1 makes p (1 - p) unbiased; one image alone has p (1 - p) = 0.
    noise = (vector * (1 - vector) / np.maximum(count - 1, 1)).mean()
    return math.sqrt(max(0.0, float(vector.var() - (1 - 1 / vector.size) * noise)))


def _correct_and_label(correct: ArrayLike, label: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    correct, label = np.asarray(correct), np.asarray(label)
    if correct.shape != label.shape or correct.ndim != 1:
        raise DataError(f"correct {correct.shape} and label {label.shape} are not two vectors of one length.")
    return correct.astype(bool), label


def _class_vector(values: ArrayLike) -> ClassVector:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise DataError(f"class accuracies are one number per class, not an array of shape {vector.shape}.")
    return vector


def _listed(classes: NDArray[np.intp], names: Sequence[str], limit: int = 5) -> str:
    texts = [f"{c} ({names[c]})" if c < len(names) else str(c) for c in classes[:limit].tolist()]
    more = f" and {classes.size - limit} more" if classes.size > limit else ""
    return f"class{'es' if classes.size > 1 else ''} {', '.join(texts)}{more}"
