"""Confusion of classes: which class the wrongly classified images go to."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairbench.core.errors import DataError

Array = NDArray[np.float64]


def confusion_shares(label: ArrayLike, prediction: ArrayLike, num_classes: int) -> Array:
    """Share of the images of each true class (rows) that are predicted as each class (columns), (C, C).

    label, prediction (N,) int in 0..C-1. The row of a class without images is NaN. Raises DataError for
    vectors of unequal length and for a class outside 0..C-1.
    """
    true, predicted = np.asarray(label, dtype=np.int64), np.asarray(prediction, dtype=np.int64)
    if true.shape != predicted.shape or true.ndim != 1:
        raise DataError(f"labels {true.shape} and predictions {predicted.shape} are not of the same images.")
    for name, values in (("label", true), ("prediction", predicted)):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise DataError(f"a {name} is outside 0..{num_classes - 1}.")
    count = np.bincount(true * num_classes + predicted, minlength=num_classes**2)
    matrix = count.reshape(num_classes, num_classes)
    with np.errstate(invalid="ignore"):
        return np.asarray(matrix / matrix.sum(axis=1, keepdims=True))


def confusion_asymmetry(shares: ArrayLike) -> Array:
    """How far confusions go one way only, (...) in [0, 1].

    shares (..., C, C) as of `confusion_shares`. For each pair of classes the difference between the shares
    that are confused in one direction and in the other; their sum over pairs, divided by all confusions.
    0: as many images of i are taken for j as of j for i, for every pair; 1: every pair is confused one way.
    NaN without a confusion. Sampling noise makes it too large on average.
    """
    matrix = np.asarray(shares, dtype=np.float64)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or matrix.shape[-1] == 0:
        raise DataError(f"a confusion matrix is square, not of shape {matrix.shape}.")
    upper = np.triu(np.ones(matrix.shape[-2:], dtype=bool), k=1)
    other = np.swapaxes(matrix, -1, -2)
    one_way = np.abs(matrix - other)[..., upper].sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(one_way / (matrix + other)[..., upper].sum(axis=-1))
