"""Class means, indicators and distance-aware weights against the definitions, written as loops."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import stats

from fairbench.attacks.labels import labels
from fairbench.core.errors import EmptyClassError
from fairbench.objectives.classes import (
    class_counts,
    class_indicator,
    class_means,
    distance_aware_weights,
)

TABLE = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2], [0.05, 0.15, 0.8]], dtype=torch.float64)


def by_loops(similarity, strength, rule, ties):
    """DAFA's rule as its paper writes it: pair by pair."""
    size = len(similarity)
    weight = [1.0] * size
    s = similarity.tolist()
    for i in range(size):
        for j in range(size):
            if i == j:
                continue
            if s[i][i] < s[j][j]:
                weight[i] += strength * s[i][j] * s[j][j]
            elif s[i][i] > s[j][j] or ties == "subtract":
                weight[i] -= strength * (s[j][i] * s[i][i] if rule == "paper" else s[i][j] * s[j][j])
    return torch.tensor(weight, dtype=torch.float64)


@st.composite
def tables(draw):
    """Random stochastic matrices, with ties in the diagonal now and then."""
    size = draw(st.integers(2, 7))
    rows = torch.rand(
        size, size, generator=torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    ).double()
    if draw(st.booleans()):
        rows = (4 * rows).round() + 1  # few different values
    return rows / rows.sum(1, keepdim=True)


RULES = st.sampled_from(["paper", "pre_2024_09"])
TIES = st.sampled_from(["skip", "subtract"])


@given(tables(), st.floats(0, 3), RULES, TIES)
@settings(deadline=None, max_examples=60)
def test_weights_equal_the_definition_pair_by_pair(similarity, strength, rule, ties):
    found = distance_aware_weights(similarity, strength, rule=rule, ties=ties)
    torch.testing.assert_close(found, by_loops(similarity, strength, rule, ties), rtol=0, atol=1e-12)


@given(tables(), st.floats(0, 3))
@settings(deadline=None, max_examples=40)
def test_weights_sum_to_the_number_of_classes(similarity, strength):
    assert float(distance_aware_weights(similarity, strength).sum()) == pytest.approx(
        len(similarity), abs=1e-10
    )


@given(tables(), st.floats(0, 3), RULES, TIES)
@settings(deadline=None, max_examples=40)
def test_weights_are_linear_in_the_strength(similarity, strength, rule, ties):
    once = distance_aware_weights(similarity, 1.0, rule=rule, ties=ties)
    found = distance_aware_weights(similarity, strength, rule=rule, ties=ties)
    torch.testing.assert_close(found - 1, strength * (once - 1), rtol=0, atol=1e-12)


@given(tables(), RULES, TIES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_relabelling_the_classes_permutes_the_weights(similarity, rule, ties, random):
    order = list(range(len(similarity)))
    random.shuffle(order)
    found = distance_aware_weights(similarity[order][:, order], 1.0, rule=rule, ties=ties)
    expected = distance_aware_weights(similarity, 1.0, rule=rule, ties=ties)[order]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@given(tables())
@settings(deadline=None, max_examples=40)
def test_the_hardest_class_gains_the_easiest_loses_and_the_gain_is_bounded(similarity):
    confidence = similarity.diagonal()
    weight = distance_aware_weights(similarity, 1.0)
    assert weight[confidence.argmin()] >= 1
    assert weight[confidence.argmax()] <= 1
    assert (weight <= 2 - confidence + 1e-12).all()


@pytest.mark.parametrize(
    ("strength", "rule", "weight"),
    [
        (1.0, "paper", [1.37, 0.95, 0.68]),
        (1.5, "paper", [1.555, 0.925, 0.52]),
        (1.0, "pre_2024_09", [1.37, 1.11, 0.87]),
        (1.5, "pre_2024_09", [1.555, 1.165, 0.805]),
        (0.0, "paper", [1, 1, 1]),
    ],
)
def test_weights_of_the_worked_example(strength, rule, weight):
    assert distance_aware_weights(TABLE, strength, rule=rule).tolist() == pytest.approx(weight)


@pytest.mark.parametrize(("ties", "weight"), [("skip", [1.0, 1.0]), ("subtract", [0.76, 0.76])])
def test_classes_of_equal_confidence(ties, weight):
    table = torch.tensor([[0.6, 0.4], [0.4, 0.6]], dtype=torch.float64)
    assert distance_aware_weights(table, 1.0, ties=ties).tolist() == pytest.approx(weight)


@pytest.mark.parametrize(("strength", "hard", "easy"), [(1.0, 1.6, -4.4), (1.5, 1.9, -7.1)])
def test_the_easiest_class_of_an_extreme_table_is_negative(strength, hard, easy):
    table = torch.zeros(10, 10, dtype=torch.float64)
    table.diagonal().fill_(0.4)
    table[:, 9] = 0.6
    table[9, 9] = 1
    weight = distance_aware_weights(table, strength)
    assert weight.tolist() == pytest.approx([hard] * 9 + [easy])
    assert float(weight.sum()) == pytest.approx(10)


def test_classes_that_are_never_mixed_up_keep_weight_one():
    diagonal = torch.diag(torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64))
    assert distance_aware_weights(diagonal, 1.0).tolist() == [1, 1, 1]


def test_weights_of_the_trix_batch_example():
    probability = torch.tensor(
        [
            [0.6, 0.2, 0.1, 0.1],
            [0.4, 0.4, 0.1, 0.1],
            [0.1, 0.8, 0.05, 0.05],
            [0.2, 0.1, 0.3, 0.4],
            [0.1, 0.9, 0, 0],
        ],
        dtype=torch.float64,
    )
    similarity = class_means(probability, torch.tensor([0, 0, 1, 2, 1]), 4)
    rows = [[0.5, 0.3, 0.1, 0.1], [0.1, 0.85, 0.025, 0.025], [0.2, 0.1, 0.3, 0.4], [0, 0, 0, 0]]
    torch.testing.assert_close(similarity, torch.tensor(rows, dtype=torch.float64))
    weight = distance_aware_weights(similarity + 1e-8 * torch.eye(4), 1.0, ties="subtract")
    assert weight.tolist() == pytest.approx([1.155, 0.66, 1.185, 1.0], abs=1e-7)
    assert weight[3] == 1  # absent: exactly


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
@settings(deadline=None, max_examples=40)
def test_class_means_equal_the_mean_of_each_class_and_zero_for_an_absent_one(labels):
    label = torch.tensor(labels)
    values = torch.rand(len(labels), 3, generator=torch.Generator().manual_seed(len(labels)))
    found = class_means(values, label, 5)
    assert found.dtype == torch.float64
    for c in range(5):
        mine = values[label == c].double()
        torch.testing.assert_close(found[c], mine.mean(0) if len(mine) else torch.zeros(3).double())


def test_relabelling_permutes_class_means():
    generator = torch.Generator().manual_seed(0)
    label, values = torch.randint(4, (20,), generator=generator), torch.rand(20, 3, generator=generator)
    permutation = torch.tensor([2, 0, 3, 1])
    assert torch.equal(class_means(values, permutation[label], 4)[permutation], class_means(values, label, 4))


def test_class_indicator_has_one_one_per_sample():
    indicator = class_indicator(torch.tensor([2, 0]), 3, torch.float32)
    assert indicator.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert indicator.dtype == torch.float32


def test_statistics_of_every_class_need_every_class():
    found = stats(TABLE)
    assert found.of_every_class("robust_probability") is found.robust_probability
    with pytest.raises(EmptyClassError, match="class 1"):
        stats(TABLE, torch.tensor([1.0, 0.0, 0.0])).of_every_class("robust_accuracy")


def test_class_means_of_one_value_per_sample_are_differentiable():
    label = torch.tensor([2, 0, 2, 2])
    values = torch.tensor([1.0, -4.0, 2.0, 6.0], requires_grad=True)
    found = class_means(values, label, 4)
    assert found.tolist() == [-4, 0, 3, 0]
    assert torch.equal(found, class_means(values[:, None], label, 4).flatten())
    (gradient,) = torch.autograd.grad(found @ torch.tensor([2.0, 5.0, 3.0, 7.0]).double(), values)
    assert gradient.tolist() == [1, 2, 1, 1]
    assert torch.autograd.gradcheck(
        lambda v: class_means(v, label, 4), values.detach().double().requires_grad_()
    )


def test_class_counts_are_the_samples_of_each_class():
    found = class_counts(torch.tensor([2, 0, 2, 2]), 4)
    assert found.dtype == torch.float64
    assert found.tolist() == [1, 0, 3, 0]
    mixed = labels(torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([0.6, 0.9]))
    assert class_counts(mixed, 3).tolist() == [1, 1, 0]
