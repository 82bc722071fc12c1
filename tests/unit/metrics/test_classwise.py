"""Accuracies per class: laws first, a few numbers by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import DataError, EmptyClassError
from fairbench.metrics import classwise

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
    before = classwise.class_accuracy(correct, label, num_classes)
    after = classwise.class_accuracy(correct, new_name[label], num_classes)
    assert np.array_equal(after[new_name], before)
    assert classwise.worst_class_accuracy(after) == classwise.worst_class_accuracy(before)
    assert classwise.worst_fraction_accuracy(after, 0.4) == classwise.worst_fraction_accuracy(before, 0.4)


@quick
@given(outcomes(), st.randoms(use_true_random=False))
def test_the_order_of_examples_does_not_matter(case, random):
    correct, label, num_classes = case
    order = np.array(random.sample(range(len(label)), len(label)))
    before = classwise.class_accuracy(correct, label, num_classes)
    assert np.array_equal(classwise.class_accuracy(correct[order], label[order], num_classes), before)


@quick
@given(outcomes())
def test_weighting_classes_by_their_size_gives_the_average(case):
    correct, label, num_classes = case
    accuracy = classwise.class_accuracy(correct, label, num_classes)
    share = classwise.class_count(label, num_classes) / len(label)
    assert classwise.average_accuracy(correct) == pytest.approx(float(accuracy @ share))
    assert 0 <= classwise.worst_class_accuracy(accuracy) <= classwise.balanced_accuracy(accuracy) <= 1


@quick
@given(outcomes(), st.integers(1, 6))
def test_worst_fraction_lies_between_worst_class_and_balanced_accuracy(case, tenths):
    correct, label, num_classes = case
    accuracy = classwise.class_accuracy(correct, label, num_classes)
    tail = classwise.worst_fraction_accuracy(accuracy, tenths / 10)
    assert classwise.worst_class_accuracy(accuracy) <= tail + 1e-12
    assert tail <= classwise.balanced_accuracy(accuracy) + 1e-12


def test_unbalanced_labels_are_divided_by_their_own_count():
    label = np.array([0, 0, 0, 0, 1, 1])
    correct = np.array([True, True, True, False, True, False])
    assert classwise.class_accuracy(correct, label, 2).tolist() == [0.75, 0.5]
    assert classwise.average_accuracy(correct) == pytest.approx(4 / 6)
    assert classwise.worst_class(classwise.class_accuracy(correct, label, 2)) == 1


def test_worst_fifth_of_two_hundred_classes_is_the_mean_of_forty():
    accuracy = np.random.default_rng(0).permutation(np.arange(200) / 200)
    assert classwise.worst_fraction_accuracy(accuracy, 0.2) == pytest.approx(np.arange(40).mean() / 200)
    assert classwise.worst_fraction_accuracy(np.arange(100.0), 0.29) == pytest.approx(14.0)  # 29 classes
    assert classwise.worst_fraction_accuracy(accuracy, 0.001) == 0.0  # always at least one


@quick
@given(outcomes(), st.randoms(use_true_random=False))
def test_relabelling_classes_keeps_gap_and_deviations(case, random):
    correct, label, num_classes = case
    order = np.array(random.sample(range(num_classes), num_classes))
    accuracy = classwise.class_accuracy(correct, label, num_classes)
    count = classwise.class_count(label, num_classes)
    assert classwise.class_gap(accuracy[order]) == classwise.class_gap(accuracy)
    assert classwise.normalised_deviation(accuracy[order]) == pytest.approx(
        classwise.normalised_deviation(accuracy), nan_ok=True
    )
    corrected = classwise.corrected_deviation(accuracy, count)
    assert classwise.corrected_deviation(accuracy[order], count[order]) == pytest.approx(corrected, abs=1e-9)
    assert 0 <= corrected <= accuracy.std() + 1e-12 <= 0.5 + 1e-12


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


@pytest.mark.parametrize("count", [np.full(10, 1000), np.array([50, 80, 100, 200, 1000] * 2)])
def test_the_square_of_the_corrected_deviation_is_right_on_average(count):
    truth = np.linspace(0.2, 0.8, 10)  # so uneven that the cut at 0 never acts
    hits = np.random.default_rng(0).binomial(count, truth, size=(3000, 10))
    squares = np.array([classwise.corrected_deviation(a, count) ** 2 for a in hits / count])
    assert squares.mean() == pytest.approx(truth.var(), abs=3 * squares.std() / np.sqrt(3000))


def test_equal_classes_have_little_corrected_deviation():
    hits = np.random.default_rng(1).binomial(100, 0.25, size=(500, 100))
    corrected = [classwise.corrected_deviation(a, np.full(100, 100)) for a in hits / 100]
    assert np.std(hits / 100, axis=1).mean() > 0.04
    assert np.mean(corrected) < 0.01
    assert classwise.corrected_deviation([1.0, 0.0], [1, 1]) == 0.5  # one image leaves no noise to see


def test_a_tie_names_the_first_of_the_worst_classes():
    assert classwise.worst_class([0.5, 0.2, 0.2]) == 1


def test_a_class_without_examples_is_named():
    with pytest.raises(EmptyClassError, match=r"class 1 \(cat\) without an example"):
        classwise.class_accuracy([True, False], [0, 2], 3, ["dog", "cat", "owl"])
    with pytest.raises(EmptyClassError, match="and 2 more"):
        classwise.class_accuracy([True], [0], 8)


@pytest.mark.parametrize("label", [[0, 3], [-1, 0], [0.0, 1.0], [[0], [1]]])
def test_labels_outside_the_classes_are_refused(label):
    with pytest.raises(DataError):
        classwise.class_accuracy(np.ones(np.shape(label), bool), np.array(label), 3)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(DataError):
        classwise.class_accuracy([True], [0, 1], 2)
    with pytest.raises(DataError):
        classwise.class_count([0], 0)
    with pytest.raises(DataError):
        classwise.average_accuracy([])
    with pytest.raises(DataError):
        classwise.worst_class_accuracy([])
    with pytest.raises(DataError):
        classwise.worst_fraction_accuracy([0.5], 0.0)
    with pytest.raises(DataError):
        classwise.num_worst(1.5, 10)
    for count in ([10], [10, 0]):
        with pytest.raises(DataError):
            classwise.corrected_deviation([0.5, 0.6], count)
