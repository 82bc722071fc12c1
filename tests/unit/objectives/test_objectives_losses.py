"""Per-sample losses and the loss that TRADES, DAFA and TRIX share."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from toys import batch, network

from fairbench.data.batch import Batch
from fairbench.objectives.losses import cross_entropy, kl, kl_to_clean, log_probabilities
from fairbench.objectives.trades import trades_terms


def logits(seed, scale=3.0, dtype=torch.float64):
    return scale * torch.randn(6, 4, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@given(st.integers(0, 1000), st.floats(0.01, 50))
@settings(deadline=None, max_examples=40)
def test_divergence_is_never_negative_and_zero_between_equal_distributions(seed, scale):
    p, q = logits(seed, scale), logits(seed + 1, scale)
    assert (kl(p, q) >= -1e-12).all()
    assert kl(p, p).abs().max() == 0
    torch.testing.assert_close(kl(p + 7.0, q - 3.0), kl(p, q), atol=1e-9, rtol=1e-9)  # shifts mean nothing


def test_losses_equal_torchs_own():
    p, q, label = logits(0), logits(1), torch.tensor([0, 1, 2, 3, 0, 1])
    torch.testing.assert_close(cross_entropy(p, label), F.cross_entropy(p, label, reduction="none"))
    log_p, log_q = p.log_softmax(1), q.log_softmax(1)
    torch.testing.assert_close(kl(p, q), F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(1))


@pytest.mark.parametrize("gap", [200.0, 1e4])
def test_probabilities_that_underflow_give_no_nan(gap):
    certain = torch.tensor([[gap, 0.0, 0.0]], requires_grad=True)
    other = torch.tensor([[0.0, gap, 0.0]], requires_grad=True)
    value = kl(certain, other) + kl(certain, certain)
    (gradient,) = torch.autograd.grad(value.sum(), certain)
    assert value.item() == pytest.approx(gap)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(dtype):
    assert log_probabilities(logits(0).to(dtype)).dtype == torch.float32
    assert log_probabilities(logits(0)).dtype == torch.float64


def test_gradient_of_the_divergence_reaches_both_arguments():
    p, q = logits(0).requires_grad_(), logits(1).requires_grad_()
    assert torch.autograd.gradcheck(kl, (p, q))


def test_the_adversarys_aim_keeps_the_clean_prediction_it_was_made_with():
    given, model = batch(), network()
    model.eval()
    aim, clean = kl_to_clean(model, given.x), model(given.x).detach()
    with torch.no_grad():
        model.fc.weight.zero_()
    assert torch.equal(aim(clean), torch.zeros(12))


@pytest.mark.parametrize("order", ["adv-clean", "clean-adv-clean"])
def test_orders_of_the_forwards_give_the_same_loss(order):
    given = batch()
    found = trades_terms(network(), given, (given.x + 0.1).clamp(0, 1), beta=6.0, bn_order=order)
    base = trades_terms(network(), given, (given.x + 0.1).clamp(0, 1), beta=6.0, bn_order="adv-clean")
    assert torch.equal(found.total(), base.total())
    assert torch.equal(found.logits_adv, base.logits_adv)


def test_gradient_of_the_shared_loss_is_the_finite_difference():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    x = torch.rand(3, 1, 2, 2, dtype=torch.float64)
    given = Batch(x, torch.arange(3), torch.arange(3))
    weight = {"clean": torch.tensor([0.5, 2.0, 1.0]).double()}

    def loss(bias):
        with_bias = torch.func.functional_call
        return trades_terms(
            lambda images: with_bias(model, {"1.bias": bias}, (images,)),
            given,
            x + 0.1,
            beta=6.0,
            bn_order="adv-clean",
            weight=weight,
        ).total()

    assert torch.autograd.gradcheck(loss, (model[1].bias.detach().requires_grad_(),))
