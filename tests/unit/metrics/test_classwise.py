"""Accuracies per class: laws first, a few numbers by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import DataError, EmptyClassError
from fairbench.metrics import classwise


def accuracy_of(correct, label, num_classes):
    """Class accuracies (C,) of labelled examples."""
    count = classwise.class_count(label, num_classes)
    return classwise.class_accuracy(classwise.class_hits(correct, label, num_classes), count)


quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@st.composite
def outcomes(draw):
    """(correct, label, num_classes) in which every class occurs."""
    num_classes = draw(st.integers(1, 6))
    label = list(range(num_classes)) + draw(st.lists(st.integers(0, num_classes - 1), max_size=40))
    correct = draw(st.lists(st.booleans(), min_size=len(label), max_size=len(label)))
    return np.array(correct), np.array(label), num_classes


@quick
@given(outcomes(), st.randoms(use_true_random=False))
def test_relabelling_classes_permutes_class_accuracies_and_keeps_the_worst(case, random):
    correct, label, num_classes = case
    new_name = np.array(random.sample(range(num_classes), num_classes))
    before = accuracy_of(correct, label, num_classes)
    after = accuracy_of(correct, new_name[label], num_classes)
    assert np.array_equal(after[new_name], before)
    assert classwise.worst_class_accuracy(after) == classwise.worst_class_accuracy(before)
    assert classwise.worst_class_accuracy(after, 0.4) == classwise.worst_class_accuracy(before, 0.4)


@quick
@given(outcomes(), st.randoms(use_true_random=False))
def test_the_order_of_examples_does_not_matter(case, random):
    correct, label, num_classes = case
    order = np.array(random.sample(range(len(label)), len(label)))
    before = accuracy_of(correct, label, num_classes)
    assert np.array_equal(accuracy_of(correct[order], label[order], num_classes), before)


@quick
@given(outcomes())
def test_weighting_classes_by_their_size_gives_the_average(case):
    correct, label, num_classes = case
    accuracy = accuracy_of(correct, label, num_classes)
    count = classwise.class_count(label, num_classes)
    average = classwise.average_accuracy(classwise.class_hits(correct, label, num_classes), count)
    assert average == correct.mean()
    assert average == pytest.approx(float(accuracy @ (count / len(label))))
    assert 0 <= classwise.worst_class_accuracy(accuracy) <= classwise.balanced_accuracy(accuracy) <= 1


@quick
@given(outcomes(), st.integers(1, 6))
def test_worst_fraction_lies_between_worst_class_and_balanced_accuracy(case, tenths):
    correct, label, num_classes = case
    accuracy = accuracy_of(correct, label, num_classes)
    tail = classwise.worst_class_accuracy(accuracy, tenths / 10)
    assert classwise.worst_class_accuracy(accuracy) <= tail + 1e-12
    assert tail <= classwise.balanced_accuracy(accuracy) + 1e-12


def test_unbalanced_labels_are_divided_by_their_own_count():
    label = np.array([0, 0, 0, 0, 1, 1])
    correct = np.array([True, True, True, False, True, False])
    assert accuracy_of(correct, label, 2).tolist() == [0.75, 0.5]
    assert classwise.average_accuracy([3, 1], [4, 2]) == pytest.approx(4 / 6)
    assert classwise.worst_class(accuracy_of(correct, label, 2)) == 1


def test_worst_fifth_of_two_hundred_classes_is_the_mean_of_forty():
    accuracy = np.random.default_rng(0).permutation(np.arange(200) / 200)
    assert classwise.worst_class_accuracy(accuracy, 0.2) == pytest.approx(np.arange(40).mean() / 200)
    assert classwise.worst_class_accuracy(np.arange(100.0), 0.29) == pytest.approx(14.0)  # 29 classes
    assert classwise.worst_class_accuracy(accuracy, 0.001) == 0.0  # always at least one


@quick
@given(outcomes(), st.randoms(use_true_random=False))
def test_relabelling_classes_keeps_gap_and_deviation(case, random):
    correct, label, num_classes = case
    order = np.array(random.sample(range(num_classes), num_classes))
    accuracy = accuracy_of(correct, label, num_classes)
    assert classwise.class_gap(accuracy[order]) == classwise.class_gap(accuracy)
    assert classwise.normalised_deviation(accuracy[order]) == pytest.approx(
        classwise.normalised_deviation(accuracy), nan_ok=True
    )


@quick
@given(st.lists(st.floats(0.01, 0.5), min_size=1, max_size=8), st.floats(0.1, 2.0))
def test_scaling_accuracies_scales_the_gap_and_keeps_the_normalised_deviation(accuracy, scale):
    scaled = scale * np.array(accuracy)
    assert classwise.class_gap(scaled) == pytest.approx(scale * classwise.class_gap(accuracy))
    before = classwise.normalised_deviation(accuracy)
    assert classwise.normalised_deviation(scaled) == pytest.approx(before, abs=1e-9)


def test_gap_and_normalised_deviation_by_hand():
    assert classwise.class_gap([0.2, 0.5, 0.9]) == pytest.approx(0.7)
    assert classwise.normalised_deviation([0.2, 0.6]) == pytest.approx(0.5)
    assert np.isnan(classwise.normalised_deviation([0.0, 0.0]))
    assert classwise.class_gap([0.3]) == classwise.normalised_deviation([0.3]) == 0


def test_a_tie_names_the_first_of_the_worst_classes():
    assert classwise.worst_class([0.5, 0.2, 0.2]) == 1


def test_a_class_without_examples_is_named():
    with pytest.raises(EmptyClassError, match=r"class 1 \(cat\) without an example"):
        classwise.require_images(classwise.class_count([0, 2], 3), ["dog", "cat", "owl"])
    with pytest.raises(EmptyClassError, match="and 2 more"):
        classwise.require_images(classwise.class_count([0], 8))
    assert np.isnan(accuracy_of([True, False], [0, 2], 3)).tolist() == [False, True, False]


@pytest.mark.parametrize("label", [[0, 3], [-1, 0], [0.0, 1.0], [[0], [1]]])
def test_labels_outside_the_classes_are_refused(label):
    with pytest.raises(DataError):
        classwise.class_hits(np.ones(np.shape(label), bool), np.array(label), 3)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(DataError):
        classwise.class_hits([True], [0, 1], 2)
    with pytest.raises(DataError):
        classwise.class_count([0], 0)
    with pytest.raises(DataError):
        classwise.average_accuracy([], [])
    with pytest.raises(DataError):
        classwise.worst_class_accuracy([])
    with pytest.raises(DataError):
        classwise.worst_class_accuracy([0.5], 0.0)
    with pytest.raises(DataError):
        classwise.num_lowest_of(10, 1.5)
    with pytest.raises(DataError):
        classwise.class_gap(0.5)


@st.composite
def counted(draw):
    """(hits, count): correct examples (..., C) with up to two leading axes, all examples (C,); ties occur."""
    num_classes = draw(st.sampled_from([1, 2, 3, 10, 200]))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    most = draw(st.sampled_from([1, 4, 1000]))
    count = rng.integers(1, most + 1, num_classes) if draw(st.booleans()) else np.full(num_classes, most)
    leading = draw(st.sampled_from([(), (1,), (5,), (3, 2)]))
    return rng.integers(0, count + 1, (*leading, num_classes)), count


def plain_numbers(hits, count, fraction):
    """Every metric of one vector of classes, from the definitions in docs/tables.md, with Python's floats."""
    accuracy = [h / n for h, n in zip(hits, count, strict=True)]
    num_classes = len(accuracy)
    number = next(k for k in range(1, num_classes + 1) if k >= fraction * num_classes - 1e-9)
    mean = math.fsum(accuracy) / num_classes
    deviation = math.sqrt(math.fsum((a - mean) ** 2 for a in accuracy) / num_classes)
    return {
        "average": sum(hits) / sum(count),
        "balanced": mean,
        "worst": min(accuracy),
        "worst fraction": math.fsum(sorted(accuracy)[:number]) / number,
        "worst class": accuracy.index(min(accuracy)),
        "gap": max(accuracy) - min(accuracy),
        "deviation": deviation / mean if mean else math.nan,
    }


def core_numbers(hits, count, fraction):
    accuracy = classwise.class_accuracy(hits, count)
    return {
        "average": classwise.average_accuracy(hits, count),
        "balanced": classwise.balanced_accuracy(accuracy),
        "worst": classwise.worst_class_accuracy(accuracy),
        "worst fraction": classwise.worst_class_accuracy(accuracy, fraction),
        "worst class": classwise.worst_class(accuracy),
        "gap": classwise.class_gap(accuracy),
        "deviation": classwise.normalised_deviation(accuracy),
    }


@quick
@given(counted(), st.sampled_from([0.01, 0.1, 0.2, 0.29, 1 / 3, 0.5, 1.0]))
def test_the_core_follows_the_plain_definitions_on_every_leading_axis(case, fraction):
    hits, count = case
    core = core_numbers(hits, count, fraction)
    for place in np.ndindex(hits.shape[:-1]):
        plain = plain_numbers(hits[place].tolist(), count.tolist(), fraction)
        alone = core_numbers(hits[place], count, fraction)
        for name, values in core.items():
            assert values.shape == hits.shape[:-1]
            assert np.array_equal(values[place], alone[name], equal_nan=True), name  # to the last digit
            assert alone[name] == pytest.approx(plain[name], abs=1e-12, nan_ok=True), name
        for exact in ("average", "worst", "worst class", "gap"):
            assert np.array_equal(core[exact][place], plain[exact]), exact


@quick
@given(counted())
def test_counts_of_each_checkpoint_are_those_of_all_checkpoints(case):
    hits, count = case
    spread = np.broadcast_to(count, hits.shape)
    assert np.array_equal(classwise.class_accuracy(hits, count), classwise.class_accuracy(hits, spread))
    assert np.array_equal(classwise.average_accuracy(hits, count), classwise.average_accuracy(hits, spread))


@quick
@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=12), st.floats(0.1, 1))
def test_gini_and_the_harmonic_mean_follow_their_definitions(values, scale):
    accuracy = np.array(values)
    difference = np.abs(accuracy[:, None] - accuracy).mean()
    assert classwise.gini(accuracy) == pytest.approx(difference / (2 * accuracy.mean()), abs=1e-12)
    assert classwise.gini(scale * accuracy) == pytest.approx(classwise.gini(accuracy), abs=1e-12)
    assert 0 <= classwise.gini(accuracy) < 1
    harmonic = classwise.harmonic_mean(accuracy)
    assert harmonic == pytest.approx(1 / np.mean(1 / accuracy))
    assert accuracy.min() - 1e-12 <= harmonic <= accuracy.mean() + 1e-12
    assert classwise.gini(np.stack([accuracy, accuracy[::-1]])).shape == (2,)


def test_gini_and_the_harmonic_mean_at_their_limits():
    assert classwise.gini([0.5, 0.5, 0.5]) == 0
    assert classwise.gini([0, 0, 0, 1]) == pytest.approx(0.75)
    assert math.isnan(classwise.gini([0.0, 0.0]))
    assert classwise.harmonic_mean([0.0, 1.0]) == 0
