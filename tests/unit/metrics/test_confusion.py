"""Confusions between classes: shares, and how far they go one way."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.core.errors import DataError
from fairbench.metrics.confusion import confusion_asymmetry, confusion_shares

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)


@st.composite
def outcomes(draw):
    """(label, prediction, num_classes) in which every class occurs."""
    size = draw(st.integers(2, 6))
    label = list(range(size)) + draw(st.lists(st.integers(0, size - 1), max_size=40))
    prediction = draw(st.lists(st.integers(0, size - 1), min_size=len(label), max_size=len(label)))
    return np.array(label), np.array(prediction), size


@quick
@given(outcomes(), st.randoms(use_true_random=False))
def test_asymmetry_lies_between_0_and_1_and_has_no_names_of_classes(case, random):
    label, prediction, size = case
    shares = confusion_shares(label, prediction, size)
    assert shares.sum(axis=1) == pytest.approx(1)
    value = confusion_asymmetry(shares)
    names = np.array(random.sample(range(size), size))
    renamed = confusion_asymmetry(confusion_shares(names[label], names[prediction], size))
    assert np.array_equal(np.isnan(value), np.isnan(renamed))
    if not np.isnan(value):
        assert 0 <= value <= 1
        assert renamed == pytest.approx(value)
        assert confusion_asymmetry(np.stack([shares, shares])) == pytest.approx(np.full(2, value))


def test_asymmetry_by_hand():
    assert confusion_asymmetry([[0.8, 0.2], [0.2, 0.8]]) == 0
    assert confusion_asymmetry([[0.8, 0.2], [0.0, 1.0]]) == 1
    assert confusion_asymmetry([[0.7, 0.3], [0.1, 0.9]]) == pytest.approx(0.5)
    assert np.isnan(confusion_asymmetry(np.eye(3)))


def test_bad_arguments_are_refused():
    for arguments in (([0, 1], [0], 2), ([0, 2], [0, 0], 2), ([0, 1], [0, -1], 2)):
        with pytest.raises(DataError):
            confusion_shares(*arguments)
    for shares in ([0.5, 0.5], [[1.0, 0.0]], np.zeros((0, 0))):
        with pytest.raises(DataError):
            confusion_asymmetry(shares)
