"""The lowest class: limits cover by simulation, at profiles from one clear worst class to all equal."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import DataError
from fairbench.metrics.classwise import mean_of_lowest, num_lowest_of, worst_class_accuracy
from fairbench.stats.worst import (
    image_lower_limit,
    image_upper_limit,
    noise_floor,
    split_half_worst,
    worst_class_interval,
)

quick = settings(max_examples=30, deadline=None, derandomize=True, database=None)

CLEAR = np.array([0.20, 0.26, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7])
TIED = np.array([0.30, 0.30, 0.33, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7])
EQUAL = np.full(10, 0.49)
SPREAD = np.clip(np.random.default_rng(7).normal(0.25, 0.12, 100), 0.03, 0.95)
# true class accuracies, images per class, and the widest mean width (in points) that is still of use
PROFILES = {
    "clear worst": (CLEAR, 1000, None, 6.0),
    "two tied": (TIED, 1000, None, 7.0),
    "ten equal": (EQUAL, 1000, None, 8.0),
    "CIFAR-100 spread": (SPREAD, 100, None, 10.0),
    "clear worst, worst three": (CLEAR, 1000, 0.3, 4.0),
    "two tied, worst three": (TIED, 1000, 0.3, 4.0),
    "ten equal, worst three": (EQUAL, 1000, 0.3, 6.0),
    "CIFAR-100 spread, worst tenth": (SPREAD, 100, 0.1, 9.0),
    "CIFAR-100 equal, worst tenth": (np.full(100, 0.25), 100, 0.1, 14.0),
    "unequal counts": (TIED, np.array([50, 1000, 200, 100, 1000, 300, 50, 80, 800, 20]), None, 40.0),
    "unequal counts, worst three": (
        TIED,
        np.array([50, 1000, 200, 100, 1000, 300, 50, 80, 800, 20]),
        0.3,
        25.0,
    ),
}


def enough(hits, level=0.95):
    """Whether `hits` cover at `level`, up to three binomial errors of their number."""
    return np.mean(hits) >= level - 3 * math.sqrt(level * (1 - level) / len(hits))


@pytest.mark.parametrize("name", PROFILES)
def test_limits_over_images_cover_the_lowest_class(name):
    truth, n, fraction, widest = PROFILES[name]
    count, num_lowest = np.broadcast_to(n, truth.shape).astype(float), num_lowest_of(truth.size, fraction)
    repetitions = 1500 if truth.size == 10 else 250
    drawn = np.random.default_rng(1).binomial(count.astype(int), truth, (repetitions, truth.size)) / count
    low = image_lower_limit(drawn, count, num_lowest, 0.025)
    high = image_upper_limit(drawn, count, num_lowest, 0.025)
    value = mean_of_lowest(truth, num_lowest)
    assert enough(low <= value, 0.975)
    assert enough(value <= high, 0.975)
    assert 100 * np.mean(high - low) < widest
    # These are the limits of one seed.
    limits = worst_class_interval(drawn[:1], count, fraction=fraction)
    assert (limits.low, limits.high) == pytest.approx((low[0], high[0]), abs=1e-4)


def test_a_tail_of_one_half_takes_the_bias_of_equal_classes_away():
    drawn = np.random.default_rng(2).binomial(1000, EQUAL, (1000, 10)) / 1000
    centre = image_upper_limit(drawn, np.full(10, 1000.0), 1, 0.5)
    assert drawn.min(axis=1).mean() < 0.468
    assert np.median(centre) == pytest.approx(0.49, abs=0.003)


def runs_on_shared_images(rng, truth, n, deviation, shape):
    """Accuracies (*shape, C) of runs whose true accuracies vary; each image has one difficulty for all."""
    difficulty = np.sort(rng.random((truth.size, n)), axis=1)
    true = np.clip(truth + deviation * rng.normal(size=(*shape, truth.size)), 0, 1)
    seen = [np.searchsorted(row, true[..., c]) for c, row in enumerate(difficulty)]
    return np.stack(seen, axis=-1) / n


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("deviation", [0.003, 0.015])
@pytest.mark.parametrize(
    ("truth", "n", "fraction", "repetitions"),
    [
        (CLEAR, 1000, None, 150),
        (TIED, 1000, None, 150),
        (EQUAL, 1000, None, 100),
        (SPREAD, 100, None, 40),
        (CLEAR, 1000, 0.3, 40),
        (EQUAL, 1000, 0.3, 20),
        (SPREAD, 100, 0.1, 20),
    ],
)
def test_limits_over_seeds_and_their_shared_images_cover_the_mean_lowest_class(
    seeds, deviation, truth, n, fraction, repetitions
):
    rng = np.random.default_rng(seeds)
    num_lowest = num_lowest_of(truth.size, fraction)
    true = np.clip(truth + deviation * rng.normal(size=(5000, truth.size)), 0, 1)
    value = mean_of_lowest(true, num_lowest).mean()
    covered, width = [], []
    for _ in range(repetitions):
        drawn = runs_on_shared_images(rng, truth, n, deviation, (seeds,))
        limits = worst_class_interval(drawn, np.full(truth.size, n), fraction=fraction)
        covered.append(limits.low <= value <= limits.high)
        width.append(limits.high - limits.low)
    assert enough(covered)
    assert np.mean(width) < 0.125


def test_limits_cover_with_checkpoints_of_each_seed():
    rng, covered = np.random.default_rng(5), []
    true = TIED + 0.01 * rng.normal(size=(20000, 1, 10)) + 0.01 * rng.normal(size=(20000, 2, 10))
    for _ in range(120):
        difficulty = np.sort(rng.random((10, 1000)), axis=1)
        chosen = true[rng.integers(20000, size=3)]
        seen = np.stack([np.searchsorted(row, chosen[..., c]) for c, row in enumerate(difficulty)], axis=-1)
        limits = worst_class_interval(seen / 1000, np.full(10, 1000))
        covered.append(limits.low <= true.min(axis=-1).mean() <= limits.high)
    assert enough(covered)


def test_the_same_image_errors_do_not_average_out_over_seeds():
    one = worst_class_interval(TIED[None], np.full(10, 1000))
    same = worst_class_interval(np.tile(TIED, (5, 1)), np.full(10, 1000))
    assert (same.low, same.high) == pytest.approx((one.low, one.high), abs=1e-4)
    assert same.value == pytest.approx(0.3)
    apart = worst_class_interval(TIED + 0.02 * np.arange(-2, 3)[:, None], np.full(10, 1000))
    assert apart.low < same.low
    assert apart.high > same.high


def test_minimum_is_taken_in_each_checkpoint_and_then_averaged():
    accuracy = np.array([[[0.2, 0.6], [0.6, 0.4]]])
    assert worst_class_interval(accuracy, [100, 100]).value == pytest.approx(0.3)
    assert worst_class_interval(accuracy.mean(axis=1), [100, 100]).value == pytest.approx(0.4)


@quick
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.sampled_from([None, 0.3, 1.0]),
    st.randoms(use_true_random=False),
)
def test_limits_hold_the_value_and_do_not_know_the_order_of_classes(hits, fraction, random):
    accuracy, count = np.array([hits]) / 40, np.arange(40, 40 + len(hits))
    order = random.sample(range(len(hits)), len(hits))
    limits = worst_class_interval(accuracy, count, fraction=fraction)
    assert 0 <= limits.low <= limits.value <= limits.high <= 1
    assert limits.value == pytest.approx(
        accuracy.min() if fraction is None else worst_class_accuracy(accuracy[0], fraction)
    )
    other = worst_class_interval(accuracy[:, order], count[order], fraction=fraction)
    assert (other.low, other.high) == pytest.approx((limits.low, limits.high), abs=1e-9)
    wider = worst_class_interval(accuracy, count, level=0.99, fraction=fraction)
    assert wider.low <= limits.low + 1e-4
    assert wider.high >= limits.high - 1e-4


def test_one_class_has_its_clopper_pearson_limits_up_to_the_spare_error():
    limits = worst_class_interval([[0.03]], [100])
    assert limits.low == pytest.approx(0.0062, abs=1e-4)
    assert 0.0852 < limits.high < 0.09


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_all_hits_and_no_hits_reach_the_end(fraction):
    ones = worst_class_interval(np.ones((3, 4)), np.full(4, 100), fraction=fraction)
    zeros = worst_class_interval(np.zeros((3, 4)), np.full(4, 100), fraction=fraction)
    assert ones.high == pytest.approx(1, abs=1e-4)
    assert 0.9 < ones.low < 1
    assert zeros.low == 0
    assert 0 < zeros.high < 0.1


@pytest.mark.parametrize("fraction", [None, 0.3])
@pytest.mark.parametrize(
    ("p", "count"), [(0.49, [1000] * 10), (0.02, [100] * 10), (0.4, [20, 50, 50, 90, 300])]
)
def test_noise_floor_is_the_mean_of_drawn_minima(p, count, fraction):
    drawn = np.random.default_rng(3).binomial(count, p, (20000, len(count))) / count
    minima = mean_of_lowest(drawn, num_lowest_of(len(count), fraction))
    floor = noise_floor(p, count, fraction)
    assert floor == pytest.approx(minima.mean(), abs=4 * minima.std() / math.sqrt(20000))
    assert floor == noise_floor(p, count[::-1], fraction)


def test_noise_floor_of_the_known_profiles():
    assert noise_floor(0.49, [1000] * 10) == pytest.approx(0.466, abs=5e-4)
    assert noise_floor(0.25, [100] * 100) == pytest.approx(0.147, abs=5e-4)
    assert noise_floor(0.25, [100] * 100, 0.1) == pytest.approx(0.177, abs=5e-4)


@quick
@given(st.floats(0, 1), st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_noise_floor_rises_with_the_fraction_up_to_the_accuracy(p, count):
    floors = [noise_floor(p, count, fraction) for fraction in (None, 0.5, 1.0)]
    assert 0 <= floors[0] <= floors[1] + 1e-12
    assert floors[1] <= floors[2] + 1e-12
    assert floors[2] == pytest.approx(p, abs=1e-9)


def all_halves(hits, count):
    """Split-half score by going through every split of every class, with exchange."""
    images = [[1] * h + [0] * (n - h) for h, n in zip(hits, count, strict=True)]
    ways = [list(itertools.combinations(range(n), n // 2)) for n in count]
    scores = []
    for split in itertools.product(*ways):
        first = np.array([np.mean([row[i] for i in half]) for row, half in zip(images, split, strict=True)])
        rest = np.array(
            [np.mean([x for i, x in enumerate(r) if i not in h]) for r, h in zip(images, split, strict=True)]
        )
        for chosen, scored in ((first, rest), (rest, first)):
            scores.append(scored[chosen == chosen.min()].mean())
    return np.mean(scores)


@pytest.mark.parametrize(
    ("hits", "count"),
    [
        ([2, 3, 2], [4, 5, 4]),
        ([0, 0, 1], [2, 3, 4]),
        ([2, 2, 2, 2], [4, 4, 4, 4]),
        ([5, 4, 3], [7, 7, 6]),
        ([4, 4, 4], [4, 5, 4]),
    ],
)
def test_split_half_is_the_mean_over_all_splits(hits, count):
    assert split_half_worst(hits, count) == pytest.approx(all_halves(hits, count), abs=1e-12)


@pytest.mark.parametrize(("p", "count"), [(0.1, [50] * 300), (0.3, [20, 21, 100, 35, 400] * 8)])
def test_split_half_of_many_classes_is_that_of_drawn_halves(p, count):
    rng, count = np.random.default_rng(6), np.array(count)
    hits = rng.binomial(count, p)
    first = rng.hypergeometric(hits, count - hits, count // 2, size=(4000, count.size))
    halves = first / (count // 2), (hits - first) / (count - count // 2)
    scores = []
    for chosen, scored in (halves, halves[::-1]):
        tied = chosen == chosen.min(axis=1, keepdims=True)
        scores.append((scored * tied).sum(axis=1) / tied.sum(axis=1))
    drawn = np.mean(scores, axis=0)
    assert split_half_worst(hits, count) == pytest.approx(drawn.mean(), abs=4 * drawn.std() / math.sqrt(4000))


@pytest.mark.parametrize(("truth", "bias"), [(CLEAR, 0.0), (EQUAL, 0.0), (TIED, 0.002)])
def test_split_half_has_no_downward_bias(truth, bias):
    hits = np.random.default_rng(4).binomial(1000, truth, (150, 10))
    scores = np.array([split_half_worst(row, np.full(10, 1000)) for row in hits])
    error = scores.std() / math.sqrt(150)
    assert truth.min() - 3 * error < scores.mean() < truth.min() + bias + 3 * error


def test_split_half_averages_checkpoints_and_forgets_the_order_of_classes():
    count = np.array([100, 101, 100, 50])
    hits = np.array([[30, 33, 31, 20], [28, 40, 25, 30]])
    score = split_half_worst(hits, count)
    assert score == pytest.approx(np.mean([split_half_worst(row, count) for row in hits]))
    assert split_half_worst(hits[:, ::-1], count[::-1]) == pytest.approx(score)
    assert split_half_worst(count, count) == 1
    assert split_half_worst([0, 0], [10, 10]) == 0
    assert split_half_worst([300], [1000]) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("accuracy", "count"),
    [
        ([0.5], [10]),
        ([[0.5]], [10, 10]),
        ([[1.5]], [10]),
        ([[math.nan]], [10]),
        ([[0.5]], [0]),
        ([[0.5]], [1.5]),
        (np.zeros((0, 1)), [10]),
        (np.zeros((1, 1, 1, 1)), [10]),
    ],
)
def test_what_are_no_class_accuracies_are_refused(accuracy, count):
    with pytest.raises(DataError):
        worst_class_interval(accuracy, count)


def test_bad_arguments_are_refused():
    with pytest.raises(DataError):
        worst_class_interval([[0.5]], [10], level=1.0)
    with pytest.raises(DataError):
        worst_class_interval([[0.5]], [10], fraction=0.0)
    for p, count in ((1.1, [10]), (math.nan, [10]), (0.5, [])):
        with pytest.raises(DataError):
            noise_floor(p, count)
    for hits, count in (([11], [10]), ([0.5], [10]), ([1], [1]), ([1, 2], [10])):
        with pytest.raises(DataError):
            split_half_worst(hits, count)
