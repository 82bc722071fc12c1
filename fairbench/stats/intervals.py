"""How sure a number is: intervals over seeds, and over test images for one share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairbench.core.errors import DataError
from fairbench.metrics.rho import Convention, rho, rho_gradient

Vector = NDArray[np.float64]
Shares = Sequence[float] | NDArray[Any]


@dataclass(frozen=True)
class Interval:
    """A mean with the half-width of its interval at confidence `level`, from `n` seeds.

    `half_width` and `sd` (n - 1 in its denominator) are None when one value says nothing about spread.
    """

    mean: float
    half_width: float | None
    level: float
    n: int
    sd: float | None = None


def t_interval(values: ArrayLike, level: float = 0.95) -> Interval:
    """Mean of independent values, one per seed, with the half-width of its Student t interval.

    Covers the mean over all seeds with probability `level` when the values are normal; for
    three seeds the half-width is 2.5 standard deviations. It speaks of seeds, not of test images, which
    all seeds share. One value has no half-width. Raises DataError for no value or one that is
    not finite. Source: Student (1908), Biometrika 6.
    """
    vector = _values(values)
    n, mean = vector.size, float(vector.sum()) / vector.size
    if n == 1:
        return Interval(mean, None, checked_level(level), 1)
    deviations = vector - mean
    sd = math.sqrt(float((deviations * deviations).sum()) / (n - 1))
    return Interval(mean, t_factor(n, level) * sd / math.sqrt(n), level, n, sd)


def rho_values(
    method_average: ArrayLike,
    method_worst: ArrayLike,
    base_average: ArrayLike,
    base_worst: ArrayLike,
    *,
    convention: Convention = "signed",
) -> NDArray[np.float64]:
    """For each seed what it says of rho, (n,): their mean is rho of the mean accuracies. NaN if undefined.

    Each argument is (n,): one accuracy per seed, the same seeds in the same order in all four.
    A seed's value is rho of the means plus the gradient there times the seed's deviations, so whatever it
    does to method and baseline alike cancels. Such linear propagation is fair while the baseline's worst
    class is several standard errors above 0, and too narrow below that.
    Source: delta method for a ratio of means, Cochran (1977), Sampling Techniques, ch. 6.
    """
    columns = [_values(column) for column in (method_average, method_worst, base_average, base_worst)]
    if len({column.size for column in columns}) != 1:
        raise DataError(f"rho is paired over seeds, but there are {[c.size for c in columns]} values.")
    means = tuple(float(column.sum()) / column.size for column in columns)
    centre = np.full(columns[0].size, rho(*means, convention=convention))
    if np.isnan(centre).any():
        return centre
    gradient = rho_gradient(*means, convention=convention)
    return sum(
        (slope * (column - mean) for slope, column, mean in zip(gradient, columns, means, strict=True)),
        start=centre,
    )


@overload
def wilson_interval(k: float, n: float, level: float = 0.95) -> tuple[float, float]: ...
@overload
def wilson_interval(k: Shares, n: float | Shares, level: float = 0.95) -> tuple[Vector, Vector]: ...


def wilson_interval(k: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[float | Vector, float | Vector]:
    """Limits of a share of which `k` of `n` were seen, both in [0, 1]; for display.

    Covers with probability `level` on average over nearby shares, at some shares less. k and n may be
    arrays, which broadcast, and k no whole number, as after averaging checkpoints. Raises DataError
    unless 0 <= k <= n and n >= 1. Source: Wilson (1927), JASA 22; recommended for small n by
    Brown, Cai and DasGupta (2001), Statistical Science 16.
    """
    from scipy.special import ndtri

    k, n = _shares(k, n)
    z = float(ndtri((1 + checked_level(level)) / 2))
    share = k / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At k = 0 and k = n one limit is exactly 0 or 1; rounding must not say otherwise.
    return _plain(np.where(k == 0, 0.0, centre - half)), _plain(np.where(k == n, 1.0, centre + half))


def lower_limit(k: Vector, n: Vector, tail: float) -> Vector:
    """Exact limit that lies above the share with probability `tail` at most; 0 for k = 0."""
    from scipy.special import betaincinv

    return np.asarray(np.where(k <= 0, 0.0, betaincinv(np.where(k <= 0, 1.0, k), n - k + 1, tail)))


@lru_cache
def t_factor(n: int, level: float = 0.95) -> float:
    """Standard errors from the mean to the limit of the two-sided t interval of `n` >= 2 values."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, (1 + checked_level(level)) / 2))


def _values(values: ArrayLike | Sequence[float]) -> NDArray[np.float64]:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0 or not np.isfinite(vector).all():
        raise DataError("an interval needs one or more finite values, one per seed.")
    return vector


def _shares(k: ArrayLike, n: ArrayLike) -> tuple[Vector, Vector]:
    k, n = np.asarray(k, dtype=np.float64), np.asarray(n, dtype=np.float64)
    try:
        k, n = np.broadcast_arrays(k, n)
    except ValueError as error:
        raise DataError(
            f"k of shape {k.shape} and n of shape {n.shape} are not of the same shares."
        ) from error
    wrong = ~((n >= 1) & (k >= 0) & (k <= n))
    if wrong.any():
        raise DataError(
            f"a share needs 0 <= k <= n with n >= 1, not k = {k[wrong][0]:g}, n = {n[wrong][0]:g}."
        )
    return k, n


def _plain(values: Vector) -> float | Vector:
    """A number for a number, an array for an array."""
    return float(values) if values.ndim == 0 else values


def checked_level(level: float) -> float:
    """The confidence level; raises DataError unless it is in (0, 1)."""
    if not 0 < level < 1:
        raise DataError(f"a confidence level is in (0, 1), not {level}.")
    return level
