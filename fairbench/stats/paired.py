"""Paired comparisons of two methods: over the same seeds, or on the same test images.

These answer two questions that a caption must keep apart. A comparison over seeds is about two *methods*. A
comparison on the same test images is about two *checkpoints*, for any number of images.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairbench.core.errors import DataError
from fairbench.metrics import classwise
from fairbench.stats.intervals import Vector, checked_level, finite, t_interval
from fairbench.stats.worst import Limits, image_lower_limit, image_upper_limit

ENUMERATED = 15  # for up to so many seeds all 2^S signs are tried
DRAWS = 9999  # random signs for more seeds


class ClassTests(NamedTuple):
    """For each class, (C,): images that only A has correct, that only B has, and McNemar's p unadjusted."""

    b: NDArray[np.int64]
    c: NDArray[np.int64]
    p: Vector


def paired_t(differences: ArrayLike) -> float | None:
    """Two-sided p value of the paired t test, None for one difference.

    differences (S,), one per seed that both methods share. Exact for normal differences. p is 0 when all
    differences are equal, and 1 when all are 0. Raises DataError for no or infinite values. Source: Student
    (1908), Biometrika 6.
    """
    from scipy.special import stdtr

    interval = t_interval(differences)
    if interval.sd is None:
        return None
    error = interval.sd / math.sqrt(interval.n)
    if error == 0:
        return 1.0 if interval.mean == 0 else 0.0
    return float(2 * stdtr(interval.n - 1, -abs(interval.mean) / error))


def sign_flip(differences: ArrayLike) -> float:
    """Two-sided p value of the sign-flip test, in (0, 1].

    differences (S,), one per seed. Exact for every symmetric distribution of differences: all 2^S signs are
    tried for up to 15 seeds, and 9999 random signs, always the same, for more. Never below 2^(1 - S), so
    five seeds cannot reach 0.05. Raises DataError for no or infinite values. Source: Fisher (1935), The
    Design of Experiments, section 21.
    """
    from scipy.stats import permutation_test

    values = finite(differences)
    if values.size == 1:
        return 1.0  # scipy needs at least two values
    draws = math.inf if values.size <= ENUMERATED else DRAWS
    result = permutation_test(
        (values,),
        lambda x, axis: np.abs(x.sum(axis=axis)),
        permutation_type="samples",
        n_resamples=draws,
        alternative="greater",
        vectorized=True,
        random_state=np.random.default_rng(0),
    )
    return float(result.pvalue)


def mcnemar(b: int, c: int) -> float:
    """Two-sided p value of McNemar's exact test that two models have the same accuracy, in (0, 1].

    b images that only the first model classifies correctly, c that only the second does; other images have
    no influence. 1 when b + c = 0. Raises DataError for negative counts. Source: McNemar (1947),
    Psychometrika 12.
    """
    return float(_mcnemar(np.asarray(b), np.asarray(c)))


def mcnemar_by_class(
    correct_a: ArrayLike, correct_b: ArrayLike, label: ArrayLike, num_classes: int
) -> ClassTests:
    """McNemar's exact test for each class.

    correct_a and correct_b (N,) bool on the same images, label (N,) int in 0..C-1. The p values are not
    adjusted for C tests: use `holm` or `benjamini_hochberg`. Raises DataError for arrays of unequal length
    and labels outside 0..C-1.
    """
    first, second, labels = _same_images(correct_a, correct_b, label)
    b, c = (classwise.class_hits(only, labels, num_classes) for only in (first & ~second, second & ~first))
    return ClassTests(b, c, _mcnemar(b, c))


def paired_share_interval(b: float, c: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Confidence limits of the accuracy of A minus that of B on the same `n` images, in [-1, 1].

    b images that only A classifies correctly, c that only B does. The limits contain the
    true difference with probability `level` on average over similar shares, from 50 images on. Raises
    DataError unless b + c <= n, b and c are at least 0 and n >= 1. Source: Bonett and Price (2012), Journal
    of Educational and Behavioral Statistics 37; recommended by Fagerland, Lydersen and Laake (2014),
    Statistics in Medicine 33.
    """
    from scipy.special import ndtri

    if not (n >= 1 and b >= 0 and c >= 0 and b + c <= n):
        raise DataError("b and c must be at least 0, and b + c at most the number of images n.")
    only_a, only_b = (b + 1) / (n + 2), (c + 1) / (n + 2)
    centre = only_a - only_b
    half = float(ndtri((1 + checked_level(level)) / 2)) * math.sqrt((only_a + only_b - centre**2) / (n + 2))
    return max(centre - half, -1.0), min(centre + half, 1.0)


def min_difference_interval(
    correct_a: ArrayLike,
    correct_b: ArrayLike,
    label: ArrayLike,
    num_classes: int,
    fraction: float | None = None,
    level: float = 0.95,
) -> Limits:
    """Worst class accuracy of A minus that of B, with limits over test images.

    correct_a and correct_b (N,) bool on the same images, label (N,) int; the worst class of A may be another
    one than that of B. `fraction` as in `worst_class_interval`. The limits are for these two checkpoints. In
    simulations they contain the true difference with probability `level` or more, from one clearly worst
    class to all classes equal. They are wide when several classes are close to the worst, so for 100 classes
    give a `fraction`. Each limit combines the distance of one minimum to its upper limit with the distance
    of the other to its lower limit: squares are added because both are noise, and the noise common to A and
    B (the same class is worst in both) is subtracted. The bias from ties is added as it is. Raises DataError
    for arrays of unequal length and for a class without images. Source: method of variance estimates
    recovery, Zou and Donner (2008), Statistics in Medicine 27, with the limits of `worst`.
    """
    first, second, labels = _same_images(correct_a, correct_b, label)
    images = classwise.class_count(labels, num_classes)
    classwise.require_images(images)
    hits = np.array([classwise.class_hits(x, labels, num_classes) for x in (first, second, first & second)])
    accuracy, both = classwise.class_accuracy(hits, images)[:2], classwise.class_accuracy(hits[2], images)
    count = images.astype(np.float64)
    num_lowest = classwise.num_lowest_of(num_classes, fraction)
    tail = (1 - checked_level(level)) / 2
    values = classwise.mean_of_lowest(accuracy, num_lowest)
    low = image_lower_limit(accuracy, count, num_lowest, tail)
    centre = np.maximum(values, image_upper_limit(accuracy, count, num_lowest, 0.5))
    up = np.maximum(image_upper_limit(accuracy, count, num_lowest, tail), centre) - centre
    down, bias = values - low, centre - values
    shared = _shared_noise(accuracy, both, count, num_lowest)
    value = float(values[0] - values[1])
    sides = [
        bias[i] + math.sqrt(max(0.0, up[i] ** 2 + down[j] ** 2 - 2 * shared * up[i] * down[j]))
        for i, j in ((0, 1), (1, 0))
    ]
    return Limits(max(-1.0, value - sides[1]), min(1.0, value + sides[0]), value)


def _shared_noise(accuracy: Vector, both: Vector, count: Vector, num_lowest: int) -> float:
    """Correlation between the two models' means of their lowest classes over test images, at least 0.

    accuracy (2, C), both (C,) share of images that both models classify correctly.
    """
    variance = accuracy * (1 - accuracy) / count
    chosen = np.argsort(accuracy, axis=1, kind="stable")[:, :num_lowest]
    common = np.intersect1d(chosen[0], chosen[1])
    covariance = float(((both - accuracy[0] * accuracy[1]) / count)[common].sum())
    total = math.sqrt(variance[0, chosen[0]].sum() * variance[1, chosen[1]].sum())
    return min(1.0, max(0.0, covariance / total)) if total > 0 else 0.0


def holm(p: ArrayLike) -> Vector:
    """p values adjusted by Holm, (m,): below 0.05, a false discovery among the m tests has probability 0.05.

    Raises DataError for a p value outside [0, 1]. Source: Holm (1979), Scandinavian Journal of Statistics 6.
    """
    values = _p_values(p)
    order = np.argsort(values)
    steps = np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def benjamini_hochberg(p: ArrayLike) -> Vector:
    """p values adjusted by Benjamini and Hochberg, (m,): below q, a share q is false discoveries on average.

    For independent or positively dependent tests. Raises DataError for a p value outside [0, 1]. Source:
    Benjamini and Hochberg (1995), JRSS B 57.
    """
    from scipy.stats import false_discovery_control

    values = _p_values(p)
    return np.asarray(false_discovery_control(values)) if values.size else values


def _mcnemar(b: NDArray[np.int64], c: NDArray[np.int64]) -> Vector:
    from scipy.stats import binom

    if (b < 0).any() or (c < 0).any():
        raise DataError("the numbers of images must be at least 0.")
    return np.asarray(np.minimum(1.0, 2 * binom.cdf(np.minimum(b, c), b + c, 0.5)))


def _same_images(
    correct_a: ArrayLike, correct_b: ArrayLike, label: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    first, second, labels = np.asarray(correct_a, bool), np.asarray(correct_b, bool), np.asarray(label)
    if not first.shape == second.shape == labels.shape:
        raise DataError(
            f"a paired comparison needs the same images, not {first.shape} and {second.shape} "
            f"with labels {labels.shape}."
        )
    return first, second, labels


def _p_values(p: ArrayLike) -> Vector:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise DataError("p values must be a vector of numbers in [0, 1].")
    return values
