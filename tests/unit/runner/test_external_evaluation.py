"""What `fairbench evaluate` says of the outcomes of an attack."""

import numpy as np
import pytest

from fairbench.core.errors import EmptyClassError
from fairbench.runner.external_evaluation import agreement, summarise


def rows(correct, label):
    found = np.zeros(len(correct), dtype=[("correct", bool), ("label", np.int64)])
    found["correct"], found["label"] = correct, label
    return found


def test_accuracies_divide_each_class_by_its_own_images_and_passes_are_summed():
    stage = {"forward": 10, "backward": 4, "seconds": 0.5}
    found = summarise(rows([True, True, False, True], [0, 0, 0, 1]), ("a", "b"), {"stages": [stage, stage]})
    assert (found.average, found.worst) == (0.75, pytest.approx(2 / 3))
    assert found.classes == {"a": pytest.approx(2 / 3), "b": 1.0}
    assert (found.forward, found.backward, found.seconds) == (20, 8, 1.0)


def test_a_class_without_images_has_no_accuracy():
    with pytest.raises(EmptyClassError, match="b"):
        summarise(rows([True], [0]), ("a", "b"), {})


def test_agreement_counts_what_only_one_of_two_attacks_breaks():
    found = agreement(np.array([True, False, False, True]), np.array([True, True, False, False]))
    assert (found.same, found.only_this, found.only_reference) == (2, 1, 1)
