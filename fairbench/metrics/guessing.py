"""Signs that a network guesses: an accuracy at chance, or one prediction for nearly all images."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARE = 0.9  # of all predictions in one class
ERRORS = 3.0  # standard errors above chance that a guess may reach,
MARGIN = 0.1  # and at most this much


def guessing(rows: NDArray[Any], classes: Sequence[str], may_be_normalised: bool) -> list[str]:
    """Warnings about clean outcomes `rows`, columns `label`, `prediction` and `correct` (N,).

    may_be_normalised: whether the images were not normalised, so that this can be the reason.
    """
    count, num_classes = len(rows), len(classes)
    predictions = np.bincount(rows["prediction"], minlength=num_classes)
    labels = np.bincount(rows["label"], minlength=num_classes)
    chance = 1 / num_classes
    accuracy = float((rows["correct"] / (labels[rows["label"]] * num_classes)).sum())  # mean over classes
    error = math.sqrt(chance * (1 - chance) / count)
    top = int(predictions.argmax())
    texts = []
    if accuracy <= chance + min(ERRORS * error, MARGIN):
        texts.append(f"the mean accuracy of the {num_classes} classes is {100 * accuracy:.1f} %, at chance,")
    if predictions[top] > SHARE * count and labels[top] <= SHARE * count:
        texts.append(f"{predictions[top]} of {count} predictions are the class {classes[top]}")
    if not texts:
        return []
    cause = (
        "were the images normalised outside of the network (--normalize), or are the classes in another order"
        if may_be_normalised
        else "is this the right normalisation, and are the classes in the same order"
    )
    return [f"clean: {' and '.join(texts).rstrip(',')}: is this the right network, {cause}?"]
