"""Confidence intervals: of a mean over seeds, and of a share of test images."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairbench.core.errors import DataError
from fairbench.metrics.rho import Convention, rho, rho_gradient

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean of `n` values with the half-width of its confidence interval and their standard deviation.

    `sd` has n - 1 in its denominator. `half_width` and `sd` are None for one value.
    """

    mean: float
    half_width: float | None
    n: int
    sd: float | None = None


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of independent values, one per seed, with the half-width of its Student t interval.

    For normal values the interval contains the mean over all possible seeds with probability `level`. For
    three seeds the half-width is 2.5 standard deviations. The interval is for training with other seeds on
    the same test images, not for other test images. One value has no half-width. Raises DataError for no
    value or one that is not finite. Source: Student (1908), Biometrika 6.
    """
    vector = finite(values)
    n, mean = vector.size, float(vector.sum()) / vector.size
    checked_level(level)
    if n == 1:
        return Interval(mean, None, 1)
    deviations = vector - mean
    sd = math.sqrt(float((deviations * deviations).sum()) / (n - 1))
    return Interval(mean, t_factor(n, level) * sd / math.sqrt(n), n, sd)


def welch_half_width(sds: tuple[float, float], counts: tuple[int, int], level: float = 0.95) -> float:
    """Half-width of the interval of the difference of two means of independent values.

    sds: the standard deviation of each sample; counts: its number of values, at least 2. For normal values
    the interval contains the difference with about probability `level`, whatever the two spreads are. Source:
    Welch (1947), Biometrika 34.
    """
    variances = [sd * sd / n for sd, n in zip(sds, counts, strict=True)]
    parts = sum(variance**2 / (n - 1) for variance, n in zip(variances, counts, strict=True))
    if parts == 0:
        return 0.0
    freedom = sum(variances) ** 2 / parts
    return t_factor(freedom + 1, level) * math.sqrt(sum(variances))


def rho_values(
    method_average: ArrayLike,
    method_worst: ArrayLike,
    base_average: ArrayLike,
    base_worst: ArrayLike,
    *,
    convention: Convention = "signed",
) -> NDArray[np.float64]:
    """One value of rho per seed, (n,), by linear propagation; their mean is rho of the mean accuracies.

    Each argument is (n,): one accuracy per seed, the same seeds in the same order in all four. The value of
    a seed is rho of the means plus the gradient of rho there times the deviations of the seed. So an effect
    of a seed on method and baseline alike cancels. The interval of these values is correct while the
    baseline's worst class is several standard errors above 0, and too narrow below that. NaN where rho is
    not defined. Raises DataError for unequal lengths. Source: delta method for a ratio of means, Cochran
    (1977), Sampling Techniques, ch. 6.
    """
    columns = [finite(column) for column in (method_average, method_worst, base_average, base_worst)]
    if len({column.size for column in columns}) != 1:
        raise DataError(f"rho needs the same seeds in all arguments, not {[c.size for c in columns]} values.")
    means = tuple(float(column.sum()) / column.size for column in columns)
    centre = np.full(columns[0].size, rho(*means, convention=convention))
    if np.isnan(centre).any():
        return centre
    gradient = rho_gradient(*means, convention=convention)
    return sum(
        (slope * (column - mean) for slope, column, mean in zip(gradient, columns, means, strict=True)),
        start=centre,
    )


def wilson_interval(k: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Confidence limits of a share, low and high in [0, 1], from `k` hits in `n` images.

    The limits contain the true share with probability `level` on average over similar shares; for a single
    share the probability can be lower. k may have a fraction, such as a mean over checkpoints. Raises
    DataError unless 0 <= k <= n and n >= 1. Source: Wilson (1927), JASA 22; recommended for small n by
    Brown, Cai and DasGupta (2001), Statistical Science 16.
    """
    from scipy.special import ndtri

    if not (n >= 1 and 0 <= k <= n):
        raise DataError(f"a share needs 0 <= k <= n with n >= 1, not k = {k:g}, n = {n:g}.")
    z = float(ndtri((1 + checked_level(level)) / 2))
    share = k / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At k = 0 and k = n one limit is exactly 0 or 1, which rounding could miss.
    return 0.0 if k == 0 else centre - half, 1.0 if k == n else centre + half


def lower_limit(k: Vector, n: Vector, tail: float) -> Vector:
    """Exact lower limit of a share of `k` hits in `n`: too high with probability `tail` at most; 0 for k = 0.

    Source: Clopper and Pearson (1934), Biometrika 26.
    """
    from scipy.special import betaincinv

    return np.asarray(np.where(k <= 0, 0.0, betaincinv(np.where(k <= 0, 1.0, k), n - k + 1, tail)))


@lru_cache
def t_factor(n: float, level: float = 0.95) -> float:
    """Half-width of the two-sided t interval of `n` > 1 values, in standard errors; n may have a fraction."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, (1 + checked_level(level)) / 2))


def finite(values: ArrayLike, ndim: int = 1) -> Vector:
    """The values as an array; raises DataError unless they are finite, with `ndim` axes and not empty."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim or array.size == 0 or not np.isfinite(array).all():
        raise DataError(f"one or more finite values with {ndim} axes are needed, the last of them for seeds.")
    return array


def checked_level(level: float) -> float:
    """The confidence level; raises DataError unless it is in (0, 1)."""
    if not 0 < level < 1:
        raise DataError(f"a confidence level is in (0, 1), not {level}.")
    return level
