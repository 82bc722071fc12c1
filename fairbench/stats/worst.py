"""The minimum over classes, or the mean of the lowest share of them: its bias and its limits.

Problem    The lowest of noisy accuracies lies below the lowest true accuracy on average, by more the more
equal the classes are. A percentile bootstrap of it pulls it down a second time: where ten classes are
equal, its 95 % interval covers in 1 % of cases. Lower      Needs no correction for having looked at all
classes: the truly worst class is one class, and the limit      observed minimum is at most its observed
accuracy. Upper      How far may all classes be lifted until the observed minimum is implausibly low?
Lifting spares a limit      class that is higher without doubt, so one clear worst class costs little and
ten equal ones much. Source     Inverting a test: Clopper and Pearson (1934), Biometrika 26. First bounding
what is in the way, at a small part of the error: Berger and Boos (1994), JASA 89. Adding sources of error
by the distances of their limits: Zou and Donner (2008), Statistics in Medicine 27.
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

SPARE = 0.1  # part of the error of an upper limit spent on the classes' own lower limits (Berger and Boos)
HALVINGS = 16  # of an interval inside [0, 1]: to two thousandths of a point
MAX_NODES = 32  # exact where up to 64 classes tie, and very nearly where more do


@dataclass(frozen=True)
class Limits:
    """A value and its limits at confidence `level`, from `n` seeds; low <= value <= high.

    The value need not be in the middle: an observed minimum is too low on average.
    """

    low: float
    high: float
    value: float
    level: float
    n: int


def worst_class_interval(
    class_accuracy: ArrayLike, class_count: ArrayLike, level: float = 0.95, fraction: float | None = None
) -> Limits:
    """The lowest class accuracy, averaged over checkpoints and seeds, and its limits over images and seeds.

    class_accuracy (S, C), or (S, K, C) with K checkpoints, in [0, 1]; class_count (C,) test images. The
    limits cover, with probability `level` or more, what the value would be with endlessly many images and
    seeds, each seed's lowest class being its own. All seeds share the test images, so their error does not
    shrink with S. One seed: limits over images for that run only, which for the lowest class are guaranteed;
    seeds add the assumption of a t interval, and `fraction`, the mean of that lowest share of the classes, a
    normal approximation. Raises DataError for what is no such array.
    """
    accuracy, count = _accuracy(class_accuracy), _count(class_count)
    if accuracy.ndim not in (2, 3) or accuracy.shape[-1] != count.size:
        raise DataError(
            f"limits need (seeds, classes) or (seeds, checkpoints, classes) with {count.size} classes, "
            f"not an array of shape {accuracy.shape}."
        )
    num_lowest = num_lowest_of(count.size, fraction)
    worst = mean_of_lowest(accuracy, num_lowest)  # (S,) or (S, K)
    seeds = t_interval(worst.reshape(len(accuracy), -1).mean(axis=1), level)
    rows = accuracy.reshape(-1, count.size)
    tail = (1 - level) / 2
    # The images' errors of several runs on the same images average to at most the error of one.
    low = float(image_lower_limit(rows, count, num_lowest, tail).mean())
    high = float(image_upper_limit(rows, count, num_lowest, tail).mean())
    centre = max(seeds.mean, float(image_upper_limit(rows, count, num_lowest, 0.5).mean()))
    # Bias adds up; errors of images and of seeds are independent, and their squares add up.
    spread = seeds.half_width or 0.0
    return Limits(
        low=max(0.0, seeds.mean - math.hypot(seeds.mean - low, spread)),
        high=min(1.0, centre + math.hypot(max(high, centre) - centre, spread)),
        value=seeds.mean,
        level=level,
        n=seeds.n,
    )


def image_lower_limit(accuracy: Vector, count: Vector, num_lowest: int, tail: float) -> Vector:
    """Limit that lies above the mean of the `num_lowest` lowest classes with chance `tail` at most, (R,).

    accuracy (R, C) of R runs, count (C,) images. For several classes their hits are pooled: by Hoeffding
    (1956), Annals of Mathematical Statistics 27, hits of unequal classes spread less than those of equal
    ones.
    """
    if num_lowest == 1:
        return np.asarray(lower_limit(accuracy * count, count, tail).min(axis=-1))
    # As many images as give a mean of equal classes its error, were the smallest classes the lowest.
    pooled = num_lowest**2 / (1 / np.sort(count)[:num_lowest]).sum()
    return lower_limit(mean_of_lowest(accuracy, num_lowest) * pooled, pooled, tail)


def image_upper_limit(accuracy: Vector, count: Vector, num_lowest: int, tail: float) -> Vector:
    """Limit that lies below the mean of the `num_lowest` lowest classes with chance `tail` at most, (R,).

    Arguments as in `image_lower_limit`. A tail of 0.5 gives the observed value without its bias, or more.
    """
    observed = mean_of_lowest(accuracy, num_lowest)
    spare = SPARE * tail
    num_classes = count.size
    own = lower_limit(accuracy * count, count, 1 - (1 - spare) ** (1 / num_classes))  # (R, C), all at once

    hits = observed[:, None] * count
    unlifted = _chance_of_more(hits, count, own) if num_lowest == 1 else own
    # Hoeffding (1963), for all classes at once: lifted further than this the minimum is implausible.
    most = observed + math.sqrt(math.log(num_classes / (tail - spare)) / (2 * count.min()))

    def plausible(lift: Vector) -> NDArray[np.bool_]:
        if num_lowest > 1:
            lifted = np.maximum(own, lift[:, None])
            return np.asarray(_low_end(lifted, count, num_lowest, tail - spare) <= observed)
        more = unlifted.copy()
        r, c = np.nonzero(own < np.where(lift <= most, lift, 0)[:, None])  # few: most classes stay
        more[r, c] = _chance_of_more(hits[r, c], count[c], lift[r])
        return np.asarray((lift <= most) & (1 - more.prod(axis=-1) > tail - spare))

    lift = _last_true(plausible, observed, np.ones_like(observed))
    return mean_of_lowest(np.maximum(own, lift[:, None]), num_lowest)


def noise_floor(accuracy: float, class_count: ArrayLike, fraction: float | None = None) -> float:
    """Mean of the observed lowest class accuracy if all classes were equally good, in [0, 1].

    accuracy in [0, 1] of every class, class_count (C,) test images; `fraction` as in
    `worst_class_interval`. Exact: an expected order statistic of binomial shares. Classes cannot be fairer
    than equal, so this is about the highest number that a table can be expected to show at this average.
    Raises DataError for a number outside [0, 1] or a class without images.
    """
    count = _count(class_count)
    if not 0 <= accuracy <= 1:
        raise DataError(f"an accuracy is in [0, 1], not {accuracy}.")
    return _noise_floor(float(accuracy), tuple(sorted(count.tolist())), num_lowest_of(count.size, fraction))


@lru_cache(maxsize=4096)
def _noise_floor(accuracy: float, count: tuple[float, ...], num_lowest: int) -> float:
    from scipy.special import bdtr

    edges, widths, seen = _edges(tuple(sorted(set(count))))
    below = {}  # chance of each size to have a share <= x
    for n, hits in seen.items():
        # Hoeffding (1963): further off than this the chance rounds to 0 or 1.
        first, last = np.searchsorted(edges, accuracy + math.sqrt(20 / n) * np.array([-1, 1]))
        below[n] = np.zeros(edges.size)
        below[n][first:last] = bdtr(hits[first:last], int(n), accuracy)
        below[n][last:] = 1
    # number[i]: chance that exactly i < num_lowest of the classes have a share <= x, at each x.
    number = np.zeros((num_lowest, edges.size))
    number[0] = 1
    above = {n: 1 - chance for n, chance in below.items()}
    for n in count:
        moved = number[:-1] * below[n]
        number *= above[n]
        number[1:] += moved
    # The mean of the m lowest is the integral over x of (m - classes at or below x)+ / m.
    missing = np.arange(num_lowest, 0, -1) / num_lowest
    return float((missing @ number) @ widths)


@lru_cache(maxsize=64)
def _edges(sizes: tuple[float, ...]) -> tuple[Vector, Vector, dict[float, Vector]]:
    """Where a share can lie, below 1; how far the next is; and for each size the hits of such a share."""
    edges = np.unique(np.concatenate([np.arange(n + 1) / n for n in sizes]))
    return edges[:-1], np.diff(edges), {n: np.floor(edges[:-1] * n + 1e-9) for n in sizes}


def split_half_worst(hits: ArrayLike, class_count: ArrayLike) -> float:
    """Accuracy of the class that looks worst on one half of the images, on the other half; in [0, 1].

    hits (C,), or (K, C) for the mean over K checkpoints, correct images of class_count (C,). The mean over
    all halves of each class and over their exchange, to ten digits; classes that tie share evenly.
    Unbiased for the accuracy of the chosen class, which need not be the truly worst: on average not below
    the true minimum. Too noisy below some hundred images in a class. Raises DataError for counts that do
    not fit or a class of less than two images. Source: sample splitting, Cox (1975), Biometrika 62.
    """
    count = _count(class_count)
    rows = np.atleast_2d(np.asarray(hits, dtype=np.float64))
    if rows.shape[-1] != count.size or not ((rows >= 0) & (rows <= count) & (rows % 1 == 0)).all():
        raise DataError(f"hits are whole numbers up to the {count.size} class counts, not {rows.tolist()}.")
    if (count < 2).any():
        raise DataError("a class of one image has no two halves.")
    half = count // 2
    scores = _chosen_and_scored(rows, count, half)
    if (count % 2).any():  # halves of unlike size
        scores = (scores + _chosen_and_scored(rows, count, count - half)) / 2
    return float(scores.mean())


def _chosen_and_scored(hits: Vector, count: Vector, chosen: Vector) -> Vector:
    """Mean accuracy, on the rest of its images, of the class lowest on `chosen` (C,) of its images, (K,).

    Hits among the chosen images are hypergeometric and the classes independent. With f_c(x) the chance of
    a share x and g_c(x) that of a higher one, class c is taken at x with chance f_c times the integral over
    t from 0 to 1 of the product of g_j + t f_j over the other classes j: ties share evenly. That is a
    polynomial in t, which Gauss's rule integrates exactly.
    """
    share = hits / count
    # Serfling (1974), Annals of Statistics 2: no share of a sample is further off, but for 1e-12.
    reach = np.sqrt(14 * (1 - (chosen - 1) / count) / chosen)
    low, high = max(0.0, (share - reach).min()), min(1.0, (share + reach).min(axis=1).max())
    kept = (share - reach).min(axis=0) <= high  # others are never the lowest
    hits, count, chosen = hits[:, kept], count[kept], chosen[kept]
    sizes = np.unique(chosen)
    grid = np.unique(np.concatenate([np.arange(np.floor(low * n), np.ceil(high * n) + 1) / n for n in sizes]))
    seen = np.rint(grid * chosen[:, None])  # (C, X) hits among the chosen, where that is a whole number
    whole = seen / chosen[:, None] == grid
    if whole.all():  # classes of one size
        chance = _hypergeometric(seen, hits[..., None], count[:, None], chosen[:, None])
    else:
        c, x = np.nonzero(whole)
        chance = np.zeros((len(hits), *whole.shape))
        chance[:, c, x] = _hypergeometric(seen[c, x], hits[:, c], count[c], chosen[c])
    above = np.maximum(1 - chance.cumsum(axis=-1), 0.0)  # (K, C, X), as chance
    rest = (hits[..., None] - seen) / (count - chosen)[:, None]
    taken, score = np.zeros(len(hits)), np.zeros(len(hits))
    order = np.minimum((whole.sum(axis=0) + 1) // 2, MAX_NODES)  # (X,) nodes for as many classes as can tie
    for nodes in np.unique(order):
        here = order == nodes
        f, g, scored = (part if here.all() else part[..., here] for part in (chance, above, rest))
        for t, weight in _gauss(int(nodes)):
            factor = np.maximum(g + t * f, 1e-300)
            odds, all_above = f / factor, weight * factor.prod(axis=1)
            taken += (odds.sum(axis=1) * all_above).sum(axis=-1)
            score += ((odds * scored).sum(axis=1) * all_above).sum(axis=-1)
    return score / taken


def _hypergeometric(seen: Vector, hits: Vector, count: Vector, chosen: Vector) -> Vector:
    """Chance of `seen` hits among `chosen` of `count` images of which `hits` are hits, elementwise."""
    table = _log_factorials(int(count.max()))
    k, h, n, m = (part.astype(np.intp) for part in (seen, hits, count, chosen))
    groups = (k, h - k, m - k, n - h - m + k)  # hits and misses, among the chosen and the rest
    possible = np.minimum.reduce(np.broadcast_arrays(*groups)) >= 0
    ways = sum(table[np.maximum(group, 0)] for group in groups)
    total = table[h] + table[n - h] + table[m] + table[n - m] - table[n]
    return np.where(possible, np.exp(total - ways), 0.0)


@lru_cache
def _gauss(nodes: int) -> list[tuple[float, float]]:
    """Gauss's nodes between 0 and 1 with their weights."""
    found, weights = np.polynomial.legendre.leggauss(nodes)
    return list(zip(((found + 1) / 2).tolist(), (weights / 2).tolist(), strict=True))


@lru_cache(maxsize=8)
def _log_factorials(most: int) -> Vector:
    from scipy.special import gammaln

    return np.asarray(gammaln(np.arange(most + 1) + 1.0))


def _chance_of_more(hits: Vector, count: Vector, accuracy: Vector) -> Vector:
    """Chance that a class of this true accuracy shows more than `hits` hits, elementwise."""
    from scipy.special import betainc

    more = betainc(hits + 1, np.maximum(count - hits, 1e-300), accuracy)
    return np.where(hits >= count, 0.0, more)


def _low_end(accuracy: Vector, count: Vector, num_lowest: int, tail: float) -> Vector:
    """What the observed mean of the lowest classes falls below with chance `tail` at most, (R,).

    accuracy (R, C) true. Mean by its representation as max over x of x - sum_c (x - a_c)+ / m (Rockafellar
    and Uryasev 2000, Journal of Risk 2), whose expectation is at least the one of the best fixed x;
    variance at most by the Poincare inequality.
    """
    from scipy.special import ndtr, ndtri

    deviation = np.sqrt(np.maximum(accuracy * (1 - accuracy), 1e-12) / count)

    def few(x: Vector) -> NDArray[np.bool_]:
        return np.asarray(ndtr((x[:, None] - accuracy) / deviation).sum(axis=-1) <= num_lowest)

    reach = 6 * deviation.max(axis=-1)
    x = _last_true(few, accuracy.min(axis=-1) - reach, accuracy.max(axis=-1) + reach)[:, None]
    z = (x - accuracy) / deviation
    share = ndtr(z)  # chance of each class to be among the lowest
    excess = deviation * (z * share + np.exp(-z * z / 2) / math.sqrt(2 * math.pi))
    mean = x[:, 0] - excess.sum(axis=-1) / num_lowest
    variance = (deviation**2 * share).sum(axis=-1) / num_lowest**2
    return np.asarray(mean + ndtri(tail) * np.sqrt(variance))


def _last_true(condition: Callable[[Vector], NDArray[np.bool_]], low: Vector, high: Vector) -> Vector:
    """Where a condition that holds up to some number stops to hold between low and high, elementwise."""
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
        raise DataError("a number of test images is a whole number of at least 1 for each class.")
    return count
