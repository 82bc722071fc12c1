"""Comparisons of two methods: what they cover, by simulation and by enumeration, and scipy's own answers."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from fairbench.core.errors import DataError
from fairbench.stats import paired
from fairbench.stats.intervals import t_interval

quick = settings(max_examples=40, deadline=None, derandomize=True, database=None)
difference = st.floats(-1, 1).map(lambda x: round(x, 3))
CLEAR = np.array([0.20, 0.26, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7])
TIED = np.array([0.30, 0.30, 0.33, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7])
SPREAD = np.clip(np.random.default_rng(7).normal(0.25, 0.12, 100), 0.03, 0.95)


def enough(hits, level=0.95):
    """Whether `hits` cover at `level`, up to three binomial errors of their number."""
    return np.mean(hits) >= level - 3 * math.sqrt(level * (1 - level) / len(hits))


def test_paired_t_agrees_with_scipy():
    values = [0.01, 0.03, -0.005, 0.02]
    interval, theirs = t_interval(values), ttest_1samp(values, 0)
    assert paired.paired_t(values) == pytest.approx(theirs.pvalue)
    assert interval.mean - interval.half_width == pytest.approx(theirs.confidence_interval().low)


@pytest.mark.parametrize("n", [3, 5])
def test_paired_t_covers_and_rejects_no_difference_as_often_as_it_says(n):
    differences = np.random.default_rng(n).normal(size=(2000, n))
    error = 3 * math.sqrt(0.95 * 0.05 / 2000)
    intervals = [t_interval(d) for d in differences]
    assert np.mean([abs(i.mean) <= i.half_width for i in intervals]) == pytest.approx(0.95, abs=error)
    assert np.mean([paired.paired_t(d) < 0.05 for d in differences]) == pytest.approx(0.05, abs=error)


def test_pairs_without_spread():
    assert paired.paired_t([0.02]) is None
    assert paired.paired_t([0.25, 0.25, 0.25]) == 0.0
    assert paired.paired_t([0.0, 0.0]) == 1.0


@quick
@given(st.lists(difference, min_size=2, max_size=6))
def test_sign_flip_counts_the_signs_that_give_as_much(values):
    signs = np.array(list(itertools.product([1, -1], repeat=len(values))))
    share = np.mean(np.abs(signs @ values) >= abs(sum(values)) - 1e-9)
    found = paired.sign_flip(values)
    assert found == pytest.approx(share)
    assert found >= 2 ** (1 - len(values))
    assert paired.sign_flip(-np.array(values)) == found
    assert paired.sign_flip(8 * np.array(values)) == found


def test_differences_of_one_sign_have_the_smallest_sign_flip_p():
    for n in (1, 2, 5, 10):
        assert paired.sign_flip(np.arange(1, n + 1)) == 2 ** (1 - n)


def test_many_seeds_have_their_signs_drawn_the_same_way_each_time():
    values = np.random.default_rng(0).normal(0.4, 1, 20)
    assert paired.sign_flip(values) == paired.sign_flip(values)
    assert paired.sign_flip(values) == pytest.approx(paired.paired_t(values), abs=0.03)


@quick
@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_test_of_the_discordant_images(b, c):
    expected = binomtest(b, b + c).pvalue if b + c else 1.0
    assert paired.mcnemar(b, c) == pytest.approx(expected)
    assert paired.mcnemar(b, c) == paired.mcnemar(c, b)


def test_mcnemar_by_class_is_mcnemar_in_each_class():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 400)
    first, second = rng.random((2, 400)) < 0.5
    tests = paired.mcnemar_by_class(first, second, label, 5)
    for c in range(5):
        of_class = label == c
        b = int((first & ~second & of_class).sum()), int((second & ~first & of_class).sum())
        assert (tests.b[c], tests.c[c]) == b
        assert tests.p[c] == pytest.approx(paired.mcnemar(*b))
    swapped = paired.mcnemar_by_class(second, first, label, 5)
    assert np.array_equal(swapped.b, tests.c)
    assert np.array_equal(swapped.p, tests.p)
    assert tests.p[4] == 1  # no images, nothing to tell


@pytest.mark.parametrize(
    ("n", "only_a", "only_b"), [(50, 0.1, 0.05), (50, 0.02, 0.02), (100, 0.1, 0.1), (1000, 0.08, 0.05)]
)
def test_paired_share_interval_covers_the_difference_on_average_over_nearby_shares(n, only_a, only_b):
    rng = np.random.default_rng(n)
    a, b = (p * rng.uniform(0.8, 1.2, 5000) for p in (only_a, only_b))
    drawn = rng.multinomial(n, np.stack([a, b, 1 - a - b], axis=-1))
    low, high = np.array([paired.paired_share_interval(b, c, n) for b, c, _ in drawn.tolist()]).T
    assert enough((low <= a - b) & (a - b <= high))


def test_exchanging_the_models_turns_the_paired_limits_round():
    low, high = paired.paired_share_interval(9, 2, 50)
    assert paired.paired_share_interval(2, 9, 50) == pytest.approx((-high, -low))
    assert paired.paired_share_interval(1, 0, 1)[1] == 1.0
    low, high = paired.paired_share_interval(0, 0, 1000)
    assert low == -high
    assert high < 0.005


def pair_of_models(rng, first, second, n, alike):
    """Correctness (N,) of two models, a share `alike` of the images as hard for one as for the other."""
    label = np.repeat(np.arange(first.size), n)
    hard, own = rng.random((2, label.size))
    return hard < first[label], np.where(rng.random(label.size) < alike, hard, own) < second[label], label


@pytest.mark.parametrize("alike", [0.0, 0.8])
@pytest.mark.parametrize(
    ("first", "second", "fraction", "repetitions"),
    [
        (CLEAR, CLEAR + 0.02, None, 200),
        (CLEAR, TIED, None, 100),
        (TIED, TIED[[2, 1, 0, *range(3, 10)]], None, 100),
        (np.full(10, 0.49), CLEAR, None, 200),
        (np.full(10, 0.49), np.full(10, 0.49), None, 60),
        (CLEAR, TIED, 0.3, 50),
        (np.full(10, 0.49), CLEAR, 0.3, 50),
        (SPREAD, np.roll(SPREAD, 1), 0.1, 20),
    ],
)
def test_min_difference_interval_covers_whatever_classes_are_lowest(
    alike, first, second, fraction, repetitions
):
    rng = np.random.default_rng(9)
    n = 1000 if first.size == 10 else 100
    num_lowest = 1 if fraction is None else round(fraction * first.size)
    truth = np.sort(first)[:num_lowest].mean() - np.sort(second)[:num_lowest].mean()
    covered, width = [], []
    for _ in range(repetitions):
        a, b, label = pair_of_models(rng, first, second, n, alike)
        limits = paired.min_difference_interval(a, b, label, first.size, fraction)
        covered.append(limits.low <= truth <= limits.high)
        width.append(limits.high - limits.low)
    assert enough(covered)
    assert np.mean(width) < 0.15


def test_pairing_narrows_the_difference_of_one_clear_worst_class():
    rng = np.random.default_rng(1)
    widths = []
    for alike in (0.0, 0.9):
        limits = paired.min_difference_interval(*pair_of_models(rng, CLEAR, CLEAR + 0.02, 1000, alike), 10)
        widths.append(limits.high - limits.low)
    assert widths[1] < 0.7 * widths[0]


def test_exchanging_models_turns_the_difference_round_and_classes_have_no_order():
    a, b, label = pair_of_models(np.random.default_rng(2), TIED, CLEAR, 100, 0.5)
    for fraction in (None, 0.3):
        limits = paired.min_difference_interval(a, b, label, 10, fraction)
        turned = paired.min_difference_interval(b, a, label, 10, fraction)
        renamed = paired.min_difference_interval(a, b, 9 - label, 10, fraction)
        assert (turned.low, turned.high, turned.value) == pytest.approx(
            (-limits.high, -limits.low, -limits.value)
        )
        assert (renamed.low, renamed.high) == pytest.approx((limits.low, limits.high), abs=1e-9)
        assert limits.low <= limits.value <= limits.high
    same = paired.min_difference_interval(np.ones(20), np.ones(20), np.arange(20) % 2, 2)
    assert same.low <= 0 == same.value <= same.high


def test_holm_and_benjamini_hochberg_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    assert paired.holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert paired.benjamini_hochberg(p) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert paired.holm([]).size == paired.benjamini_hochberg([]).size == 0


@quick
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_adjusted_p_values_keep_their_order_and_are_not_smaller(p, random):
    p, order = np.array(p), np.array(random.sample(range(len(p)), len(p)))
    for adjust in (paired.holm, paired.benjamini_hochberg):
        adjusted = adjust(p)
        assert (adjusted >= p - 1e-15).all()
        assert (adjusted <= 1).all()
        assert adjust(p[order]) == pytest.approx(adjusted[order])
        assert (np.diff(adjusted[np.argsort(p)]) >= -1e-15).all()
    assert (paired.holm(p) >= paired.benjamini_hochberg(p) - 1e-12).all()
    assert paired.holm(p).min() == pytest.approx(min(1, len(p) * p.min()))


def test_holm_finds_something_false_in_five_percent_of_families():
    p = np.random.default_rng(0).random((4000, 8))
    found = [paired.holm(row).min() < 0.05 for row in p]
    assert np.mean(found) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4000)


def test_bad_arguments_are_refused():
    refused = [
        lambda: paired.paired_t([]),
        lambda: paired.paired_t([1.0, math.nan]),
        lambda: paired.sign_flip([math.inf, 1.0]),
        lambda: paired.mcnemar(-1, 2),
        lambda: paired.mcnemar_by_class([True], [True, False], [0, 0], 1),
        lambda: paired.mcnemar_by_class([True], [True], [1], 1),
        lambda: paired.paired_share_interval(3, 3, 5),
        lambda: paired.paired_share_interval(1, 1, 5, level=0.0),
        lambda: paired.min_difference_interval([True], [True], [0], 2),
        lambda: paired.min_difference_interval([True], [True], [0], 1, level=2.0),
        lambda: paired.holm([0.5, 1.5]),
        lambda: paired.benjamini_hochberg([math.nan]),
    ]
    for call in refused:
        with pytest.raises(DataError):
            call()
