"""Intervals cover what their captions say: by simulation, with fixed seeds."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from fairbench.core.errors import DataError
from fairbench.metrics.rho import rho
from fairbench.stats.intervals import (
    lower_limit,
    rho_values,
    t_factor,
    t_interval,
    wilson_interval,
)


def covers(interval, truth):
    return abs(truth - interval.mean) <= interval.half_width


def rho_interval(*accuracies, **options):
    """Interval of rho as tables print it."""
    return t_interval(rho_values(*accuracies, **options))


def clopper_pearson_interval(k, n, level=0.95):
    """Both exact limits of a share; the upper one is the lower one of the misses."""
    k, n, tail = np.asarray(k, float), np.asarray(n, float), (1 - level) / 2
    return lower_limit(k, n, tail), 1 - lower_limit(n - k, n, tail)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_t_interval_covers_the_mean_in_95_percent_of_repetitions(n):
    draws = np.random.default_rng(n).normal(0.3, 0.015, size=(4000, n))
    assert np.mean([covers(t_interval(d), 0.3) for d in draws]) == pytest.approx(0.95, abs=0.012)


def test_t_interval_of_another_level_covers_as_often():
    draws = np.random.default_rng(0).normal(size=(4000, 4))
    assert np.mean([covers(t_interval(d, 0.8), 0.0) for d in draws]) == pytest.approx(0.8, abs=0.02)


def simulate_rho(n, base_worst, shared, repetitions=3000):
    """How often rho's interval covers, for seeds that move method and baseline together by `shared`."""
    rng = np.random.default_rng(n)
    truth = rho(0.49, 1.3 * base_worst, 0.50, base_worst)
    hits = 0
    for _ in range(repetitions):
        common = rng.normal(0, 0.012, n) * shared
        own = rng.normal(0, 0.012, (2, n)) * math.sqrt(1 - shared**2)
        average = rng.normal(0, 0.002, (2, n))
        interval = rho_interval(
            0.49 + average[0],
            1.3 * base_worst + common + own[0],
            0.50 + average[1],
            base_worst + common + own[1],
        )
        hits += covers(interval, truth)
    return hits / repetitions


@pytest.mark.parametrize(("n", "base_worst", "shared"), [(3, 0.23, 0.0), (5, 0.23, 0.7), (5, 0.10, 0.5)])
def test_rho_interval_covers_rho_of_the_true_means(n, base_worst, shared):
    assert simulate_rho(n, base_worst, shared) == pytest.approx(0.95, abs=0.02)


def test_pairing_removes_what_a_seed_does_to_both():
    luck = np.array([-0.02, 0.0, 0.02])
    together = rho_interval(0.5 + 0 * luck, 0.2 + luck, 0.5 + 0 * luck, 0.2 + luck)
    assert together.mean == 0
    assert together.half_width == pytest.approx(0, abs=1e-12)
    apart = rho_interval(0.5 + 0 * luck, 0.2 + luck, 0.5 + 0 * luck, 0.2 - luck)
    assert apart.half_width > 0.2


def test_rho_interval_is_centred_on_rho_of_the_means_not_on_the_mean_of_rhos():
    worst, base = np.array([0.3, 0.3]), np.array([0.1, 0.3])
    interval = rho_interval([0.5, 0.5], worst, [0.5, 0.5], base)
    assert interval.mean == pytest.approx(0.5)
    assert np.mean([rho(0.5, w, 0.5, b) for w, b in zip(worst, base, strict=True)]) == pytest.approx(1.0)


def test_rho_interval_follows_the_convention():
    four = ([0.55, 0.55], [0.3, 0.3], [0.5, 0.5], [0.2, 0.2])
    assert rho_interval(*four).mean == pytest.approx(0.6)
    assert rho_interval(*four, convention="trix").mean == pytest.approx(0.4)


def test_rho_of_a_zero_baseline_is_nan_in_every_seed():
    values = rho_values([0.5, 0.5], [0.1, 0.1], [0.5, 0.5], [0.0, 0.0])
    assert np.isnan(values).tolist() == [True, True]


def test_shifting_and_scaling_the_values_shifts_and_scales_the_interval():
    values = np.array([0.2, 0.25, 0.4])
    plain, changed = t_interval(values), t_interval(1 + 100 * values)
    assert changed.mean == pytest.approx(1 + 100 * plain.mean)
    assert changed.half_width == pytest.approx(100 * plain.half_width)


def test_three_seeds_have_a_half_width_of_two_and_a_half_standard_deviations():
    interval = t_interval([1.0, 2.0, 3.0])
    assert (interval.mean, interval.sd, interval.n) == (2.0, 1.0, 3)
    assert interval.half_width == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)
    assert t_factor(5) == pytest.approx(2.776445, abs=1e-6)


def test_one_value_has_no_half_width():
    for interval in (t_interval([0.4]), rho_interval([0.5], [0.3], [0.5], [0.2])):
        assert (interval.half_width, interval.sd, interval.n) == (None, None, 1)


@pytest.mark.parametrize(("n", "p"), [(50, 0.1), (100, 0.25), (1000, 0.5), (100, 0.02)])
def test_wilson_interval_covers_the_share_on_average_over_nearby_shares(n, p):
    # Coverage jumps with p (Brown, Cai and DasGupta 2001), so it is averaged over shares around p.
    rng = np.random.default_rng(n)
    shares = rng.uniform(0.8 * p, 1.2 * p, 20000)
    counts = rng.binomial(n, shares)
    limits = np.array([wilson_interval(k, n) for k in range(n + 1)])[counts]
    assert np.mean((limits[:, 0] <= shares) & (shares <= limits[:, 1])) == pytest.approx(0.95, abs=0.02)


def test_wilson_interval_by_hand_and_at_its_ends():
    low, high = wilson_interval(25, 100)
    assert (high - low) / 2 == pytest.approx(0.084, abs=5e-4)  # half-width for n = 100 at 0.25
    assert wilson_interval(0, 100)[0] == 0.0
    assert wilson_interval(100, 100)[1] == 1.0
    low, high = wilson_interval(30, 100)
    assert wilson_interval(70, 100) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [math.inf], [[1.0]]])
def test_values_that_have_no_mean_are_refused(values):
    with pytest.raises(DataError):
        t_interval(values)


def test_bad_arguments_are_refused():
    with pytest.raises(DataError):
        t_interval([1.0, 2.0], level=1.0)
    with pytest.raises(DataError):
        rho_values([0.5], [0.3], [0.5, 0.5], [0.2])
    for k, n in ((1, 0), (-1, 5), (6, 5)):
        with pytest.raises(DataError):
            wilson_interval(k, n)


@pytest.mark.parametrize(("n", "p"), [(50, 0.1), (100, 0.02), (100, 0.25), (1000, 0.5)])
def test_clopper_pearson_interval_covers_every_share_on_either_side(n, p):
    # Exact: summed over all counts instead of drawn.
    low, high = clopper_pearson_interval(np.arange(n + 1), n)
    for share in np.linspace(0.8 * p, 1.2 * p, 21):
        chance = binom.pmf(np.arange(n + 1), n, share)
        assert chance[low > share].sum() <= 0.025 + 1e-12
        assert chance[high < share].sum() <= 0.025 + 1e-12


@pytest.mark.parametrize(("k", "n"), [(0, 100), (3, 100), (100, 100), (25, 50), (0, 1), (1, 1), (612, 1000)])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_shares_have_the_limits_that_scipy_gives(k, n, level):
    for ours, method in ((clopper_pearson_interval, "exact"), (wilson_interval, "wilson")):
        theirs = binomtest(k, n).proportion_ci(level, method)
        assert ours(k, n, level) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_arrays_of_shares_give_the_limits_of_each():
    k, n = np.array([[0.0, 3.0], [7.4, 50.0]]), np.array([50, 100])
    low, high = clopper_pearson_interval(k, n)
    assert low.shape == high.shape == (2, 2)
    for place in np.ndindex(2, 2):
        one = clopper_pearson_interval(float(k[place]), int(n[place[1]]))
        assert one == pytest.approx((low[place], high[place]))
    assert ((low <= k / n) & (k / n <= high)).all()


def test_a_share_that_is_none_is_refused_and_a_number_gives_numbers():
    assert all(type(limit) is float for limit in wilson_interval(7.4, 100))
    for bad in ((6, 5), (math.nan, 5)):
        with pytest.raises(DataError):
            wilson_interval(*bad)


def test_a_share_between_two_counts_has_limits_between_theirs():
    for interval in (wilson_interval, clopper_pearson_interval):
        limits = np.array([interval(k, 100) for k in (7, 7.4, 8)])
        assert (np.diff(limits, axis=0) > 0).all()
