"""Statistics of the worst class: confidence limits, the noise floor and the split-half score.

"Worst" is the lowest class accuracy, or the mean of a lowest fraction of the classes.

Problem      Measured accuracies contain sampling noise, so the lowest measured accuracy is on average below
             the lowest true accuracy. The bias is larger the closer the classes are to each other. A
             percentile bootstrap of the minimum adds the bias a second time: for ten equal classes its 95 %
             interval contains the true value in only 1 % of cases.
Lower limit  The class that is truly worst is one fixed class, and the measured minimum is at most its
             measured accuracy. So the exact limit of one class holds for the minimum, without a correction
             for the number of classes.
Upper limit  All accuracies below some level are raised to that level, and the limit is the highest level at
             which a minimum as low as the measured one still has probability `tail`. Classes that are
             clearly higher are not changed: with one clearly worst class the limit is close, with ten equal
             classes it is farther away.
Source       Inversion of a test: Clopper and Pearson (1934), Biometrika 26. Limits of the other classes from
             a small part of the error probability: Berger and Boos (1994), JASA 89. Sum of several sources
             of error from the distances of their limits: Zou and Donner (2008), Statistics in Medicine 27.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairbench.core.errors import DataError
from fairbench.metrics.classwise import mean_of_lowest, num_lowest_of
from fairbench.stats.intervals import Vector, lower_limit, t_interval

SPARE = 0.1  # part of the upper limit's error probability used for the classes' own limits (Berger and Boos)
HALVINGS = 16  # of an interval in [0, 1]: the result is exact to 0.002 percentage points
MAX_NODES = 32  # of Gauss's rule: exact for ties of up to 64 classes, a close approximation beyond


@dataclass(frozen=True)
class Limits:
    """A value and its confidence limits, low <= value <= high.

    The value need not lie in the middle, because a measured minimum is too low on average.
    """

    low: float
    high: float
    value: float


def worst_class_interval(
    class_accuracy: ArrayLike, class_count: ArrayLike, level: float = 0.95, fraction: float | None = None
) -> Limits:
    """Worst class accuracy, mean over checkpoints and seeds, with limits for test images and seeds.

    class_accuracy (S, C), or (S, K, C) with K checkpoints, in [0, 1]; class_count (C,) test images. With
    probability `level` or more the limits contain the value for infinitely many images and seeds; the worst
    class may be another one in each seed. All seeds use the same test images, so the error from the images
    does not become smaller with more seeds. For one seed the limits are for the images of that run alone.
    The limits are guaranteed for the lowest class of one seed. Several seeds add the assumption of a t
    interval, and a `fraction` (worst is then the mean of that lowest fraction of the classes) adds a normal
    approximation. Raises DataError for arrays of other shapes or values.
    """
    accuracy, count = _accuracy(class_accuracy), _count(class_count)
    if accuracy.ndim not in (2, 3) or accuracy.shape[-1] != count.size:
        raise DataError(
            f"limits need an array (seeds, classes) or (seeds, checkpoints, classes) with {count.size} "
            f"classes, not one of shape {accuracy.shape}."
        )
    num_lowest = num_lowest_of(count.size, fraction)
    worst = mean_of_lowest(accuracy, num_lowest)  # (S,) or (S, K)
    seeds = t_interval(worst.reshape(len(accuracy), -1).mean(axis=1), level)
    rows = accuracy.reshape(-1, count.size)
    tail = (1 - level) / 2
    # All runs use the same images, so the mean of their image errors is at most the error of one run.
    low = float(image_lower_limit(rows, count, num_lowest, tail).mean())
    high = float(image_upper_limit(rows, count, num_lowest, tail).mean())
    centre = max(seeds.mean, float(image_upper_limit(rows, count, num_lowest, 0.5).mean()))
    # The bias is added as it is. Errors from images and from seeds are independent: their squares add up.
    spread = seeds.half_width or 0.0
    return Limits(
        low=max(0.0, seeds.mean - math.hypot(seeds.mean - low, spread)),
        high=min(1.0, centre + math.hypot(max(high, centre) - centre, spread)),
        value=seeds.mean,
    )


def image_lower_limit(accuracy: Vector, count: Vector, num_lowest: int, tail: float) -> Vector:
    """Lower limit of the mean of the `num_lowest` lowest classes, (R,), for other test images.

    It is too high with probability `tail` at most. accuracy (R, C) of R runs, count (C,) images. The hits of
    several classes are counted as those of one class: hits of unequal classes vary less than hits of equal
    classes, by Hoeffding (1956), Annals of Mathematical Statistics 27.
    """
    if num_lowest == 1:
        return np.asarray(lower_limit(accuracy * count, count, tail).min(axis=-1))
    # Number of images for which one class has the error of this mean, if the smallest classes are the lowest.
    pooled = num_lowest**2 / (1 / np.sort(count)[:num_lowest]).sum()
    return lower_limit(mean_of_lowest(accuracy, num_lowest) * pooled, pooled, tail)


def image_upper_limit(accuracy: Vector, count: Vector, num_lowest: int, tail: float) -> Vector:
    """Upper limit of the mean of the `num_lowest` lowest classes, (R,), for other test images.

    It is too low with probability `tail` at most. Arguments as in `image_lower_limit`. A tail of 0.5 gives
    the measured value with its bias removed, or a higher one.
    """
    observed = mean_of_lowest(accuracy, num_lowest)
    spare = SPARE * tail
    num_classes = count.size
    own = lower_limit(accuracy * count, count, 1 - (1 - spare) ** (1 / num_classes))  # (R, C), all at once

    hits = observed[:, None] * count
    unlifted = _probability_of_more(hits, count, own) if num_lowest == 1 else own
    # Hoeffding (1963), for all classes together: at a higher level the measured minimum is too improbable.
    most = observed + math.sqrt(math.log(num_classes / (tail - spare)) / (2 * count.min()))

    def plausible(lift: Vector) -> NDArray[np.bool_]:
        if num_lowest > 1:
            lifted = np.maximum(own, lift[:, None])
            return np.asarray(_low_end(lifted, count, num_lowest, tail - spare) <= observed)
        more = unlifted.copy()
        r, c = np.nonzero(own < np.where(lift <= most, lift, 0)[:, None])  # few classes are raised
        more[r, c] = _probability_of_more(hits[r, c], count[c], lift[r])
        return np.asarray((lift <= most) & (1 - more.prod(axis=-1) > tail - spare))

    lift = _last_true(plausible, observed, np.ones_like(observed))
    return mean_of_lowest(np.maximum(own, lift[:, None]), num_lowest)


def noise_floor(accuracy: float, class_count: ArrayLike, fraction: float | None = None) -> float:
    """Expected worst class accuracy if all classes had the same true accuracy, in [0, 1].

    accuracy in [0, 1] of every class, class_count (C,) test images; `fraction` as in
    `worst_class_interval`. Exact: the expectation of an order statistic of binomial shares. Equal classes
    are the fairest case, so no method with this average can be expected to have a much higher worst class
    in a table. Raises DataError for a number outside [0, 1] or a class without images.
    """
    count = _count(class_count)
    if not 0 <= accuracy <= 1:
        raise DataError(f"an accuracy is in [0, 1], not {accuracy}.")
    return _noise_floor(float(accuracy), tuple(sorted(count.tolist())), num_lowest_of(count.size, fraction))


@lru_cache(maxsize=4096)
def _noise_floor(accuracy: float, count: tuple[float, ...], num_lowest: int) -> float:
    from scipy.special import bdtr

    edges, widths, seen = _edges(tuple(sorted(set(count))))
    below = {}  # for each class size: probability of a share <= x
    for n, hits in seen.items():
        # Hoeffding (1963): at a greater distance the probability is rounded to 0 or 1.
        first, last = np.searchsorted(edges, accuracy + math.sqrt(20 / n) * np.array([-1, 1]))
        below[n] = np.zeros(edges.size)
        below[n][first:last] = bdtr(hits[first:last], int(n), accuracy)
        below[n][last:] = 1
    # number[i]: probability that exactly i < num_lowest of the classes have a share <= x, at each x.
    number = np.zeros((num_lowest, edges.size))
    number[0] = 1
    above = {n: 1 - probability for n, probability in below.items()}
    for n in count:
        moved = number[:-1] * below[n]
        number *= above[n]
        number[1:] += moved
    # The mean of the m lowest is the integral over x of (m - classes at or below x)+ / m.
    missing = np.arange(num_lowest, 0, -1) / num_lowest
    return float((missing @ number) @ widths)


@lru_cache(maxsize=64)
def _edges(sizes: tuple[float, ...]) -> tuple[Vector, Vector, dict[float, Vector]]:
    """Possible shares below 1, ascending; the distance of each to the next; and for each size their hits."""
    edges = np.unique(np.concatenate([np.arange(n + 1) / n for n in sizes]))
    return edges[:-1], np.diff(edges), {n: np.floor(edges[:-1] * n + 1e-9) for n in sizes}


def split_half_worst(hits: ArrayLike, class_count: ArrayLike) -> float:
    """Split-half score: choose the worst class on one half of the images, measure it on the other; in [0, 1].

    hits (C,), or (K, C) for the mean over K checkpoints, correct images of class_count (C,). The mean over
    all ways to halve each class, with both halves in both roles, to ten digits; tied classes have equal
    weight. It is unbiased for the accuracy of the chosen class. That class need not be the truly worst one,
    so the score is on average not below the true minimum. It is too noisy for fewer than some hundred images
    in a class. Raises DataError for hits that are not whole numbers up to the counts, or a class of fewer
    than two images. Source: sample splitting, Cox (1975), Biometrika 62.
    """
    count = _count(class_count)
    rows = np.atleast_2d(np.asarray(hits, dtype=np.float64))
    if rows.shape[-1] != count.size or not ((rows >= 0) & (rows <= count) & (rows % 1 == 0)).all():
        raise DataError(
            f"hits must be whole numbers up to the counts of the {count.size} classes, not {rows.tolist()}."
        )
    if (count < 2).any():
        raise DataError("a class of one image cannot be split into two halves.")
    half = count // 2
    scores = _chosen_and_scored(rows, count, half)
    if (count % 2).any():  # the two halves have different sizes
        scores = (scores + _chosen_and_scored(rows, count, count - half)) / 2
    return float(scores.mean())


def _chosen_and_scored(hits: Vector, count: Vector, chosen: Vector) -> Vector:
    """Accuracy on the remaining images of the class that is lowest on `chosen` (C,) of its images, (K,).

    Mean over all choices of images. Hits among the chosen images are hypergeometric and independent between
    classes. Let f_c(x) be the probability of a share x and g_c(x) that of a higher share. Class c is chosen
    at x with probability f_c times the integral over t from 0 to 1 of the product of g_j + t f_j over the
    other classes j, which gives tied classes equal weight. The integrand is a polynomial in t, so Gauss's
    rule is exact.
    """
    share = hits / count
    # Serfling (1974), Annals of Statistics 2: a greater distance has probability below 1e-12.
    reach = np.sqrt(14 * (1 - (chosen - 1) / count) / chosen)
    low, high = max(0.0, (share - reach).min()), min(1.0, (share + reach).min(axis=1).max())
    kept = (share - reach).min(axis=0) <= high  # no other class can be the lowest
    hits, count, chosen = hits[:, kept], count[kept], chosen[kept]
    sizes = np.unique(chosen)
    grid = np.unique(np.concatenate([np.arange(np.floor(low * n), np.ceil(high * n) + 1) / n for n in sizes]))
    seen = np.rint(grid * chosen[:, None])  # (C, X) hits among the chosen images; valid where `whole`
    whole = seen / chosen[:, None] == grid
    if whole.all():  # all classes have the same size
        probability = _hypergeometric(seen, hits[..., None], count[:, None], chosen[:, None])
    else:
        c, x = np.nonzero(whole)
        probability = np.zeros((len(hits), *whole.shape))
        probability[:, c, x] = _hypergeometric(seen[c, x], hits[:, c], count[c], chosen[c])
    above = np.maximum(1 - probability.cumsum(axis=-1), 0.0)  # (K, C, X), as probability
    rest = (hits[..., None] - seen) / (count - chosen)[:, None]
    taken, score = np.zeros(len(hits)), np.zeros(len(hits))
    order = np.minimum((whole.sum(axis=0) + 1) // 2, MAX_NODES)  # (X,) nodes, from the classes that can tie
    for nodes in np.unique(order):
        here = order == nodes
        f, g, scored = (part if here.all() else part[..., here] for part in (probability, above, rest))
        for t, weight in _gauss(int(nodes)):
            factor = np.maximum(g + t * f, 1e-300)
            odds, all_above = f / factor, weight * factor.prod(axis=1)
            taken += (odds.sum(axis=1) * all_above).sum(axis=-1)
            score += ((odds * scored).sum(axis=1) * all_above).sum(axis=-1)
    return score / taken


def _hypergeometric(seen: Vector, hits: Vector, count: Vector, chosen: Vector) -> Vector:
    """Probability of `seen` hits among `chosen` of `count` images that contain `hits` hits, elementwise."""
    table = _log_factorials(int(count.max()))
    k, h, n, m = (part.astype(np.intp) for part in (seen, hits, count, chosen))
    groups = (k, h - k, m - k, n - h - m + k)  # hits and misses, among the chosen and the rest
    possible = np.minimum.reduce(np.broadcast_arrays(*groups)) >= 0
    ways = sum(table[np.maximum(group, 0)] for group in groups)
    total = table[h] + table[n - h] + table[m] + table[n - m] - table[n]
    return np.where(possible, np.exp(total - ways), 0.0)


@lru_cache
def _gauss(nodes: int) -> list[tuple[float, float]]:
    """Nodes and weights of Gauss's rule for the interval from 0 to 1."""
    places, weights = np.polynomial.legendre.leggauss(nodes)
    return list(zip(((places + 1) / 2).tolist(), (weights / 2).tolist(), strict=True))


@lru_cache(maxsize=8)
def _log_factorials(most: int) -> Vector:
    from scipy.special import gammaln

    return np.asarray(gammaln(np.arange(most + 1) + 1.0))


def _probability_of_more(hits: Vector, count: Vector, accuracy: Vector) -> Vector:
    """Probability that a class of this true accuracy has more than `hits` hits, elementwise."""
    from scipy.special import betainc

    more = betainc(hits + 1, np.maximum(count - hits, 1e-300), accuracy)
    return np.where(hits >= count, 0.0, more)


def _low_end(accuracy: Vector, count: Vector, num_lowest: int, tail: float) -> Vector:
    """Value that the measured mean of the lowest classes is below with probability `tail` at most, (R,).

    accuracy (R, C) true accuracies. A normal approximation. Its mean: the mean of the m lowest is the maximum
    over x of x - sum_c (x - a_c)+ / m (Rockafellar and Uryasev 2000, Journal of Risk 2), and the expectation
    of a maximum is at least that of the best fixed x. Its variance: an upper bound by the Poincare
    inequality.
    """
    from scipy.special import ndtr, ndtri

    deviation = np.sqrt(np.maximum(accuracy * (1 - accuracy), 1e-12) / count)

    def few(x: Vector) -> NDArray[np.bool_]:
        return np.asarray(ndtr((x[:, None] - accuracy) / deviation).sum(axis=-1) <= num_lowest)

    reach = 6 * deviation.max(axis=-1)
    x = _last_true(few, accuracy.min(axis=-1) - reach, accuracy.max(axis=-1) + reach)[:, None]
    z = (x - accuracy) / deviation
    share = ndtr(z)  # probability of each class to be among the lowest
    excess = deviation * (z * share + np.exp(-z * z / 2) / math.sqrt(2 * math.pi))
    mean = x[:, 0] - excess.sum(axis=-1) / num_lowest
    variance = (deviation**2 * share).sum(axis=-1) / num_lowest**2
    return np.asarray(mean + ndtri(tail) * np.sqrt(variance))


def _last_true(condition: Callable[[Vector], NDArray[np.bool_]], low: Vector, high: Vector) -> Vector:
    """Number between low and high up to which `condition` is true, by bisection, elementwise."""
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        holds = condition(middle)
        low, high = np.where(holds, middle, low), np.where(holds, high, middle)
    return high


def _accuracy(values: ArrayLike) -> Vector:
    accuracy = np.asarray(values, dtype=np.float64)
    if accuracy.size == 0 or not ((accuracy >= 0) & (accuracy <= 1)).all():
        raise DataError("limits need one or more class accuracies, all in [0, 1].")
    return accuracy


def _count(values: ArrayLike) -> Vector:
    count = np.asarray(values, dtype=np.float64)
    if count.ndim != 1 or count.size == 0 or not ((count >= 1) & (count % 1 == 0)).all():
        raise DataError("the number of test images must be a whole number of at least 1 for each class.")
    return count
