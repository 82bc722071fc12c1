"""Which methods do not differ significantly from the best mean: subset selection with moderated variances.

Problem      Few seeds estimate the spread of a method badly. A paired t test of three seeds has two degrees
             of freedom, and with eight methods an inferior one must be 15 standard errors behind before it
             is significantly worse.
Moderation   The variance of each method is averaged with the common variance of all methods of the column.
             The common variance counts as PRIOR degrees of freedom, the method's own as many as its seeds
             give. Smyth estimates PRIOR from the variances. With two to twenty methods this estimate is often
             infinite (all spreads are taken as equal), and then a method whose spread is four times that of
             the others loses its mark in 11 % of tables. So it is fixed, at the value that holds both errors:
             `docs/tables.md` has the table, `benchmarks/marks.py` makes it.
Pairing      Effects of a seed that are the same for all methods are removed first, by least squares, so
             methods with different seeds can be compared.
Source       Moderated t: Smyth (2004), Statistical Applications in Genetics and Molecular Biology 3. Degrees
             of freedom of a sum of variances: Satterthwaite (1946), Biometrics Bulletin 2. Selection of a
             subset that contains the best: Gupta (1965), Technometrics 7.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fairbench.core.errors import DataError
from fairbench.stats.intervals import Vector, checked_level

PRIOR = 2.0
"""Degrees of freedom of the common variance: as many as the own variance of a method with three seeds."""
_ROUNDING = 1e-12  # equal means of the same values in another order differ by rounding only


def near_best(values: ArrayLike, level: float = 0.95, best: int | None = None) -> NDArray[np.bool_]:
    """Which of M methods are not significantly below the one with the highest mean, (M,) bool.

    values (M, S), higher is better, one column per seed; NaN where a method lacks the seed. The selected
    methods contain the truly best one with probability `level` when the methods have the same spread over
    seeds, and in simulations with probability `level` - 1.5 % whatever the spreads are. A method that shares
    fewer than two seeds with the highest one is not tested, and selected. Raises DataError for infinite
    values and for a method without a value. best: the highest method, where the caller has chosen it.
    """
    from scipy.special import stdtrit

    table, error_rate = _table(values), 1 - checked_level(level)
    num_methods = len(table)
    best, behind, shared = _behind(table, best)
    near = np.ones(num_methods, dtype=bool)
    variance, freedom, total = _moderated(table)
    if num_methods == 1 or total < 1:
        return near
    both = variance + variance[best]
    with np.errstate(invalid="ignore", divide="ignore"):
        pooled = both**2 / (variance**2 / freedom + variance[best] ** 2 / freedom[best])
        pooled = np.where(both > 0, np.minimum(pooled, total), total)
        error = np.sqrt(both / shared)
    # The truly best method is lost only if one of the M - 1 others is this far above it. Which one has the
    # highest mean depends on the data, so each gets an equal part of the error probability (Bonferroni).
    # Holm would be wrong here: it needs a comparison that was fixed before looking at the data.
    limit = stdtrit(pooled, 1 - error_rate / (num_methods - 1))
    tested = (shared >= 2) & (np.arange(num_methods) != best)
    near[tested] = (behind <= limit * error + _ROUNDING)[tested]
    return near


def near_best_unmoderated(
    values: ArrayLike, level: float = 0.95, best: int | None = None
) -> NDArray[np.bool_]:
    """As `near_best`, by a paired t test of each method with the highest one, each with its own variance.

    The rule of tables before moderated variances, kept to verify them. It holds `level` for any spreads, but
    with three seeds it selects almost every inferior method.
    """
    from scipy.special import stdtrit

    table, error_rate = _table(values), 1 - checked_level(level)
    best, behind, shared = _behind(table, best)
    near = np.ones(len(table), dtype=bool)
    for m in np.flatnonzero((shared >= 2) & (np.arange(len(table)) != best)):
        differences = table[best] - table[m]
        error = np.nanstd(differences, ddof=1) / np.sqrt(shared[m])
        near[m] = behind[m] <= stdtrit(shared[m] - 1, 1 - error_rate / (len(table) - 1)) * error
    return near


def _behind(table: Vector, best: int | None) -> tuple[int, Vector, Vector]:
    """The method with the highest mean; how far the others are behind over common seeds; number of those."""
    best = int(np.nanmean(table, axis=1).argmax()) if best is None else best
    differences = table[best] - table
    shared = (~np.isnan(differences)).sum(axis=1)
    behind = np.nansum(differences, axis=1) / np.maximum(shared, 1)
    return best, behind, shared.astype(np.float64)


def _moderated(table: Vector) -> tuple[Vector, Vector, float]:
    """Variance of each method over seeds, moderated, with its degrees of freedom; and those of all together.

    The degrees of freedom of a method are its seeds minus what the common effects of seeds and its mean take.
    With M methods of the same S seeds they are (S - 1)(M - 1) / M, and (S - 1)(M - 1) together.
    """
    present = ~np.isnan(table)
    projection = _residual_projection(present.tobytes(), present.shape)
    squares, own = np.zeros((2, *table.shape))
    squares[present] = (projection @ table[present]) ** 2
    own[present] = projection.diagonal()
    total = float(own.sum())
    freedom = own.sum(axis=1) + PRIOR
    common = squares.sum() / total if total >= 1 else 0.0
    variance = (squares.sum(axis=1) + PRIOR * common) / freedom
    return np.where(variance > _ROUNDING**2, variance, 0.0), freedom, total


@lru_cache(maxsize=64)
def _residual_projection(present: bytes, shape: tuple[int, int]) -> Vector:
    """Matrix that maps the values to their residuals from effects of methods and of seeds."""
    method, seed = np.frombuffer(present, dtype=bool).reshape(shape).nonzero()
    effects = np.concatenate([np.eye(shape[0])[method], np.eye(shape[1])[seed]], axis=1)
    return np.asarray(np.eye(len(method)) - effects @ np.linalg.pinv(effects))


def _table(values: ArrayLike) -> Vector:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or np.isinf(table).any() or np.isnan(table).all(axis=1).any():
        raise DataError("one row per method is needed, with a finite value for one seed or more.")
    return table
