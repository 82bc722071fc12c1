"""A network that guesses is found out, and one that is only weak is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairbench.metrics.guessing import guessing


def rows(label, prediction):
    found = np.zeros(len(label), dtype=[("label", int), ("prediction", int), ("correct", bool)])
    found["label"], found["prediction"] = label, prediction
    found["correct"] = found["label"] == found["prediction"]
    return found


@given(st.integers(2, 50), st.integers(0, 2**32 - 1))
def test_one_class_for_all_images_is_a_finding(num_classes, seed):
    label = np.arange(num_classes * 4) % num_classes
    constant = np.full_like(label, seed % num_classes)
    names = [f"c{k}" for k in range(num_classes)]
    (finding,) = guessing(rows(label, constant), names, True)
    assert f"{len(label)} of {len(label)} predictions are the class c{seed % num_classes}" in finding
    assert "--normalize" in finding
    assert (
        "--normalize" not in guessing(rows(label, constant), [str(k) for k in range(num_classes)], False)[0]
    )


@given(st.integers(2, 20), st.integers(20, 60), st.integers(0, 2**32 - 1))
def test_random_predictions_are_at_chance_and_half_right_ones_are_not(num_classes, per_class, seed):
    draw = np.random.default_rng(seed)
    label = np.arange(num_classes * per_class) % num_classes
    guess = np.concatenate([draw.permutation(label)])
    shifted = (label + draw.integers(1, num_classes, len(label))) % num_classes  # never right
    assert guessing(rows(label, shifted), [str(k) for k in range(num_classes)], True)
    share = 0.5 + 0.5 / num_classes
    good = np.where(np.arange(len(label)) < 1.2 * share * len(label), label, guess)
    assert not guessing(rows(label, good), [str(k) for k in range(num_classes)], True)


@pytest.mark.parametrize("share", [0.99, 0.5])
def test_an_unbalanced_data_set_is_no_finding(share):
    label = (np.arange(1000) >= share * 1000).astype(int)
    assert not guessing(rows(label, label), ["a", "b"], True)
