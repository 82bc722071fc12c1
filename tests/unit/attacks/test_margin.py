"""The margin that CW, Square and A3 share."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairbench.attacks.margin import margin


def logits(seed):
    return 3 * torch.randn(6, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 1000), st.floats(-50, 50))
@settings(deadline=None, max_examples=30)
def test_the_margin_is_positive_exactly_where_the_label_loses_and_ignores_shifts(seed, shift):
    values, label = logits(seed), torch.tensor([0, 1, 2, 3, 0, 1])
    assert torch.equal(margin(values, label) > 0, values.argmax(1) != label)
    assert (margin(values + shift, label) - margin(values, label)).abs().max() < 1e-12


def test_the_margin_is_the_largest_other_logit_minus_the_labels():
    values = torch.tensor([[3.0, 1.0, 2.0], [3.0, 1.0, 2.0], [-5.0, -7.0, -6.5]], dtype=torch.float64)
    label = torch.tensor([0, 1, 2])
    assert margin(values, label).tolist() == [-1.0, 2.0, 1.5]
    (gradient,) = torch.autograd.grad(margin(values.requires_grad_(), label).sum(), values)
    assert gradient.tolist() == [[-1, 0, 1], [1, -1, 0], [1, 0, -1]]
