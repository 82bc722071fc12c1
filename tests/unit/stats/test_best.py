"""Which methods are marked beside the best: both error rates by simulation, and properties of the choice."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import DataError
from fairbench.stats.best import near_best, near_best_unmoderated
from fairbench.stats.paired import paired_t

quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)
difference = st.floats(-1, 1).map(lambda x: round(x, 3))
TABLES = 500


def error(rate):
    """Three standard errors of a rate over the simulated tables."""
    return 3 * math.sqrt(rate * (1 - rate) / TABLES)


def simulated(methods, seeds, *, ahead=0.0, noisy=None, together=0.0, rule=near_best):
    """The selected methods of each simulated table, (T, M); the first method is truly the best.

    ahead: how far, in standard deviations over seeds. noisy: the method with four times that deviation.
    together: the share of the variance that is a common effect of the seed.
    """
    rng = np.random.default_rng(methods * seeds)
    values = rng.normal(size=(TABLES, methods, seeds)) * math.sqrt(1 - together)
    if noisy is not None:
        values[:, noisy] *= 4
    values += rng.normal(size=(TABLES, 1, seeds)) * math.sqrt(together)
    values[:, 0] += ahead
    return np.array([rule(table) for table in values])


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("methods", [2, 3, 8, 20])
def test_the_truly_best_method_is_selected(methods, seeds):
    assert simulated(methods, seeds)[:, 0].mean() >= 0.95 - error(0.95)
    for noisy in (0, methods - 1):
        assert simulated(methods, seeds, noisy=noisy)[:, 0].mean() >= 0.93 - error(0.93)


def test_an_inferior_method_is_left_out_with_eight_methods_and_three_seeds():
    inferior = simulated(8, 3, ahead=4)[:, 1:]
    before = simulated(8, 3, ahead=4, rule=near_best_unmoderated)[:, 1:]
    assert inferior.mean() <= 0.10 + error(0.10) / 2  # seven methods of one table count about as four
    assert before.mean() > 0.6
    assert simulated(8, 3, ahead=4)[:, 0].mean() >= 0.99


@pytest.mark.parametrize(("methods", "seeds"), [(2, 3), (3, 3), (8, 3), (8, 5), (20, 3), (20, 10)])
def test_equal_methods_lose_a_mark_no_more_often_than_by_unmoderated_tests(methods, seeds):
    lost, before = (
        1 - simulated(methods, seeds, rule=rule).all(axis=1).mean()
        for rule in (near_best, near_best_unmoderated)
    )
    assert lost <= before + 0.01


def test_what_a_seed_does_to_all_methods_alike_changes_nothing():
    rng = np.random.default_rng(0)
    for _ in range(50):
        values = rng.normal(size=(5, 4))
        assert np.array_equal(near_best(values + 9 * rng.normal(size=(1, 4))), near_best(values))


@quick
@given(st.lists(difference, min_size=2, max_size=6), st.floats(0.5, 0.99))
def test_two_methods_are_compared_by_the_paired_t_test(values, level):
    table = np.stack([np.array(values), np.zeros(len(values))])
    p = paired_t(values)
    if abs(p / 2 - (1 - level)) > 1e-6 and np.ptp(values) > 0:
        assert near_best(table, level).all() == (p / 2 > 1 - level)
        assert np.array_equal(near_best(table, level), near_best_unmoderated(table, level))


def test_methods_that_are_clearly_worse_are_left_out():
    values = np.array([[0.5, 0.51, 0.49], [0.3, 0.31, 0.29], [0.495, 0.52, 0.48]])
    assert near_best(values).tolist() == [True, False, True]
    assert near_best([[0.5, 0.5], [0.25, 0.25], [0.5, 0.5]]).tolist() == [True, False, True]


def test_methods_without_two_seeds_of_the_best_are_not_tested():
    nan = math.nan
    values = [[9.0, 9.1, 9.2, nan], [1.0, 1.1, 1.2, nan], [1.0, nan, nan, 1.2], [nan, nan, nan, 9.0]]
    assert near_best(values).tolist() == [True, False, True, True]
    assert near_best_unmoderated(values).tolist() == [True, False, True, True]
    assert near_best([[9.0, nan, 9.1], [nan, 1.0, nan]]).all()


def test_a_seed_that_one_method_lacks_takes_away_little():
    rng = np.random.default_rng(3)
    kept = []
    for _ in range(TABLES):
        values = rng.normal(size=(4, 5))
        values[1, 0] = values[2, 4] = math.nan
        kept.append(near_best(values)[0])
    assert np.mean(kept) >= 0.95 - error(0.95)


@quick
@given(st.lists(st.lists(difference, min_size=3, max_size=3), min_size=1, max_size=6), st.integers(0, 5))
def test_the_highest_mean_is_selected_and_the_order_of_methods_does_not_matter(rows, turn):
    values = np.array(rows)
    chosen = near_best(values)
    assert chosen[values.mean(axis=1).argmax()]
    if np.unique(values.mean(axis=1)).size == len(values):  # one method is the highest
        assert np.array_equal(near_best(np.roll(values, turn, axis=0)), np.roll(chosen, turn))
    assert (chosen <= near_best(values, level=0.99)).all()
    assert near_best(values[:, :1]).all()


@pytest.mark.parametrize("rule", [near_best, near_best_unmoderated])
def test_bad_arguments_are_refused(rule):
    for values, level in (
        ([[1.0, math.inf]], 0.95),
        ([[1.0, 2.0], [math.nan, math.nan]], 0.95),
        ([1.0, 2.0], 0.95),
        ([[]], 0.95),
        ([[1.0, 2.0]], 1.5),
    ):
        with pytest.raises(DataError):
            rule(values, level)
