"""Which of two methods is better: over the same seeds, or on the same test images.

Two questions that a caption must not mix. Seeds say whether one *method* is better than the other; the same
images say whether one *checkpoint* is better than the other, however many images there are.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairbench.core.errors import DataError
from fairbench.metrics.classwise import (
    class_accuracy,
    class_count,
    class_hits,
    mean_of_lowest,
    num_lowest_of,
    require_images,
)
from fairbench.stats.intervals import Shares, Vector, checked_level, t_interval
from fairbench.stats.worst import Limits, image_lower_limit, image_upper_limit

ENUMERATED = 15  # seeds up to which all 2^S signs are tried
DRAWS = 9999  # of signs beyond


@dataclass(frozen=True)
class Comparison:
    """Mean difference of `n` pairs, the half-width of its interval at `level`, and the p value of none.

    Half-width and p are None for one pair, which says nothing about spread.
    """

    mean: float
    half_width: float | None
    p: float | None
    n: int
    level: float = 0.95


class ClassTests(NamedTuple):
    """Per class, (C,) each: images that only A gets right, that only B does, and McNemar's p, unadjusted."""

    b: NDArray[np.int64]
    c: NDArray[np.int64]
    p: Vector


def paired_t(differences: ArrayLike, level: float = 0.95) -> Comparison:
    """Mean difference over seeds, with its Student t interval and two-sided p value.

    differences (S,), one per seed that both methods share. Exact for normal differences. Differences that
    are all the same have half-width 0 and p = 0, or p = 1 when all are 0. Raises DataError for no or
    infinite values. Source: Student (1908), Biometrika 6.
    """
    from scipy.special import stdtr

    interval = t_interval(differences, level)
    if interval.sd is None:
        return Comparison(interval.mean, None, None, 1, level)
    error = interval.sd / math.sqrt(interval.n)
    if error == 0:
        p = 1.0 if interval.mean == 0 else 0.0
    else:
        p = float(2 * stdtr(interval.n - 1, -abs(interval.mean) / error))
    return Comparison(interval.mean, interval.half_width, p, interval.n, level)


def sign_flip(differences: ArrayLike) -> float:
    """Two-sided p value of differences whose signs could as well be the opposite, in (0, 1].

    differences (S,), one per seed. Exact for symmetric differences of any shape: all 2^S signs up to 15
    seeds, 9999 seeded draws beyond. Never below 2^(1 - S), so five seeds cannot reach 0.05.
    Raises DataError for no or infinite values. Source: Fisher (1935), The Design of Experiments, section 21.
    """
    from scipy.stats import permutation_test

    values = _finite(differences, 1)
    if values.size == 1:
        return 1.0  # scipy wants two
    draws = math.inf if values.size <= ENUMERATED else DRAWS
    found = permutation_test(
        (values,),
        lambda x, axis: np.abs(x.sum(axis=axis)),
        permutation_type="samples",
        n_resamples=draws,
        alternative="greater",
        vectorized=True,
        random_state=np.random.default_rng(0),
    )
    return float(found.pvalue)


def mcnemar(b: int, c: int) -> float:
    """Exact two-sided p value that two models are as often right, in (0, 1].

    b images that only the first gets right, c that only the second does; the others do not matter. 1 when
    there are none. Raises DataError for negative counts. Source: McNemar (1947), Psychometrika 12.
    """
    return float(_mcnemar(np.asarray(b), np.asarray(c)))


def mcnemar_by_class(
    correct_a: ArrayLike, correct_b: ArrayLike, label: ArrayLike, num_classes: int
) -> ClassTests:
    """Exact McNemar test of each class.

    correct_a and correct_b (N,) bool on the same images, label (N,) int in 0..C-1. A table of C tests needs
    `holm` or `benjamini_hochberg`. Raises DataError for arrays that do not fit.
    """
    first, second, labels = _same_images(correct_a, correct_b, label)
    b, c = (class_hits(only, labels, num_classes) for only in (first & ~second, second & ~first))
    return ClassTests(b, c, _mcnemar(b, c))


@overload
def paired_share_interval(b: float, c: float, n: float, level: float = 0.95) -> tuple[float, float]: ...
@overload
def paired_share_interval(
    b: Shares, c: Shares, n: float | Shares, level: float = 0.95
) -> tuple[Vector, Vector]: ...


def paired_share_interval(
    b: ArrayLike, c: ArrayLike, n: ArrayLike, level: float = 0.95
) -> tuple[float | Vector, float | Vector]:
    """Limits of the accuracy of A minus that of B on the same `n` images, in [-1, 1].

    b images that only A gets right, c that only B does; arrays broadcast. Covers with probability `level`
    on average over nearby shares, down to 50 images. Raises DataError unless b + c <= n, all at least 0 and
    n >= 1. Source: Bonett and Price (2012), Journal of Educational and Behavioral Statistics 37;
    recommended by Fagerland, Lydersen and Laake (2014), Statistics in Medicine 33.
    """
    from scipy.special import ndtri

    b, c, n = (np.asarray(x, dtype=np.float64) for x in (b, c, n))
    if not ((n >= 1) & (b >= 0) & (c >= 0) & (b + c <= n)).all():
        raise DataError("discordant images are at least 0 and together no more than the n images.")
    only_a, only_b = (b + 1) / (n + 2), (c + 1) / (n + 2)
    centre = only_a - only_b
    half = ndtri((1 + checked_level(level)) / 2) * np.sqrt((only_a + only_b - centre**2) / (n + 2))
    low, high = np.maximum(centre - half, -1.0), np.minimum(centre + half, 1.0)
    return (float(low), float(high)) if low.ndim == 0 else (low, high)


def min_difference_interval(
    correct_a: ArrayLike,
    correct_b: ArrayLike,
    label: ArrayLike,
    num_classes: int,
    fraction: float | None = None,
    level: float = 0.95,
) -> Limits:
    """Lowest class accuracy of A minus that of B, each its own class, and limits over test images.

    correct_a and correct_b (N,) bool on the same images, label (N,). Covers with probability `level` or
    more in simulations, from one clear worst class to all equal; wide where classes are near ties, so with
    100 classes give a `fraction`. Each side adds one minimum's distance to its upper limit and the other's
    to its lower limit, as squares because each speaks of noise, less what the two share where the same
    class is lowest in both; what ties may hide of a minimum is added as it is. `fraction` as in
    `worst_class_interval`. Speaks of these two checkpoints. Raises DataError for
    arrays that do not fit and for a class without images.
    Source: the method of variance estimates recovery, Zou and Donner (2008), Statistics in Medicine 27,
    with the limits of `worst`.
    """
    first, second, labels = _same_images(correct_a, correct_b, label)
    images = class_count(labels, num_classes)
    require_images(images)
    hits = np.array([class_hits(x, labels, num_classes) for x in (first, second, first & second)])
    accuracy, both = class_accuracy(hits, images)[:2], class_accuracy(hits[2], images)
    count = images.astype(np.float64)
    num_lowest = num_lowest_of(num_classes, fraction)
    tail = (1 - checked_level(level)) / 2
    values = mean_of_lowest(accuracy, num_lowest)
    low = image_lower_limit(accuracy, count, num_lowest, tail)
    centre = np.maximum(values, image_upper_limit(accuracy, count, num_lowest, 0.5))
    up = np.maximum(image_upper_limit(accuracy, count, num_lowest, tail), centre) - centre
    down, hidden = values - low, centre - values
    shared = _shared_noise(accuracy, both, count, num_lowest)
    value = float(values[0] - values[1])
    sides = [
        hidden[i] + math.sqrt(max(0.0, up[i] ** 2 + down[j] ** 2 - 2 * shared * up[i] * down[j]))
        for i, j in ((0, 1), (1, 0))
    ]
    return Limits(max(-1.0, value - sides[1]), min(1.0, value + sides[0]), value, level, n=1)


def _shared_noise(accuracy: Vector, both: Vector, count: Vector, num_lowest: int) -> float:
    """Correlation over images of the two models' means of their lowest classes, at least 0.

    accuracy (2, C), both (C,) share of images that both get right.
    """
    variance = accuracy * (1 - accuracy) / count
    chosen = np.argsort(accuracy, axis=1, kind="stable")[:, :num_lowest]
    common = np.intersect1d(chosen[0], chosen[1])
    covariance = float(((both - accuracy[0] * accuracy[1]) / count)[common].sum())
    total = math.sqrt(variance[0, chosen[0]].sum() * variance[1, chosen[1]].sum())
    return min(1.0, max(0.0, covariance / total)) if total > 0 else 0.0


def near_best(values: ArrayLike, level: float = 0.95) -> NDArray[np.bool_]:
    """Which of M methods cannot be told from the one with the highest mean, (M,) bool.

    values (M, S), higher is better, over the same S seeds. The set holds the truly best method with
    probability `level` or more, for normal differences, however the seeds move methods together. One seed
    tells nothing: all are in. Raises DataError for values that are not finite. Source: subset selection,
    Gupta (1965), Technometrics 7.
    """
    from scipy.special import stdtrit

    table, error_rate = _finite(values, 2), 1 - checked_level(level)
    num_methods, num_seeds = table.shape
    if num_methods == 1 or num_seeds == 1:
        return np.ones(num_methods, dtype=bool)
    best = table[table.mean(axis=1).argmax()]
    behind = best - table
    mean, error = behind.mean(axis=1), behind.std(axis=1, ddof=1) / math.sqrt(num_seeds)
    # The truly best falls out only if one of the M - 1 others beats it by this much. Which of them is known
    # after looking, so each may claim its share of the error (Bonferroni). Holm would adjust over the
    # methods that fall out, as if the one they are compared with had been fixed beforehand.
    limit = stdtrit(num_seeds - 1, 1 - error_rate / (num_methods - 1))
    return np.asarray(mean <= limit * error)


def holm(p: ArrayLike) -> Vector:
    """p values adjusted so that any false find among them has at most the probability that one shows, (m,).

    Raises DataError for a p value outside [0, 1]. Source: Holm (1979), Scandinavian Journal of Statistics 6.
    """
    values = _p_values(p)
    order = np.argsort(values)
    steps = np.maximum.accumulate(values[order] * np.arange(values.size, 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def benjamini_hochberg(p: ArrayLike) -> Vector:
    """p values adjusted so that those up to q contain at most the share q of false finds on average, (m,).

    For independent or positively dependent tests. Raises DataError for a p value outside [0, 1]. Source:
    Benjamini and Hochberg (1995), JRSS B 57.
    """
    from scipy.stats import false_discovery_control

    values = _p_values(p)
    return np.asarray(false_discovery_control(values)) if values.size else values


def _mcnemar(b: NDArray[np.int64], c: NDArray[np.int64]) -> Vector:
    from scipy.stats import binom

    if (b < 0).any() or (c < 0).any():
        raise DataError("discordant images cannot be fewer than 0.")
    return np.asarray(np.minimum(1.0, 2 * binom.cdf(np.minimum(b, c), b + c, 0.5)))


def _same_images(
    correct_a: ArrayLike, correct_b: ArrayLike, label: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    first, second, labels = np.asarray(correct_a, bool), np.asarray(correct_b, bool), np.asarray(label)
    if not first.shape == second.shape == labels.shape:
        raise DataError(
            f"a pair is judged on the same images, not on {first.shape} and {second.shape} "
            f"with labels {labels.shape}."
        )
    return first, second, labels


def _finite(values: ArrayLike, ndim: int) -> Vector:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim or array.size == 0 or not np.isfinite(array).all():
        raise DataError(f"a comparison needs finite values along {ndim} axes, one per seed on the last.")
    return array


def _p_values(p: ArrayLike) -> Vector:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise DataError("p values are a vector of numbers in [0, 1].")
    return values
