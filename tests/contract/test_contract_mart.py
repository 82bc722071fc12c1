"""MART's laws: runner-up, margin, weighted consistency and its limits."""

import math

import pytest
import torch
import toys
from toys import batch, context, loss_of, network, objective

from fairbench.api import losses
from fairbench.core.errors import ConfigError

STABLE = pytest.mark.parametrize("stable_log", [True, False])


def logits(size=12, num_classes=4, seed=0, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(size, num_classes, generator=generator, dtype=torch.float64)


def by_hand(clean, adv, y, stable):
    """MART's two terms of one sample, written as its paper and program do."""
    p, q = ([math.exp(v) for v in torch.log_softmax(z, 0).tolist()] for z in (clean, adv))
    other = max(q[c] for c in range(len(q)) if c != y)
    margin = -math.log(q[y]) - math.log(1.0001 - other + 1e-12)
    ridge = 0.0 if stable else 1e-12
    divergence = sum(a * (math.log(a) - math.log(b + ridge)) for a, b in zip(p, q, strict=True))
    return margin, (1.0000001 - p[y]) * divergence


@STABLE
def test_terms_of_each_sample_are_those_of_the_paper(stable_log):
    clean, adv, y = logits(), logits(seed=1), batch().y
    margin = losses.mart_margin(adv, y)
    consistency = losses.mart_consistency(clean, adv, y, stable_log=stable_log)
    for b in range(len(y)):
        expected = by_hand(clean[b], adv[b], int(y[b]), stable_log)
        assert (float(margin[b]), float(consistency[b])) == pytest.approx(expected, rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_the_runner_up_is_the_best_class_that_is_not_the_label(num_classes):
    adv, y = logits(50, num_classes), torch.arange(50) % num_classes
    found = losses.runner_up(adv, y)
    for b in range(50):
        others = [c for c in range(num_classes) if c != y[b]]
        assert int(found[b]) == max(others, key=lambda c, row=adv[b]: float(row[c]))
    assert (losses.runner_up(torch.zeros(50, num_classes), y) != y).all()  # ties


@STABLE
def test_consistency_vanishes_where_the_adversary_is_the_image(stable_log):
    given, model = batch(), network()
    terms = loss_of(objective("mart", stable_log=stable_log), model, given, given.x)
    assert terms.terms["robust"].abs().max() < 1e-6


def test_consistency_vanishes_where_the_label_is_certain():
    y = batch().y
    certain = 100 * torch.nn.functional.one_hot(y, 4).double()
    assert losses.mart_consistency(logits(), logits(seed=1), y).min() > 1e-4
    consistency = losses.mart_consistency(certain, logits(seed=1), y)
    divergence = losses.kl(certain, logits(seed=1))
    assert (consistency <= 1.001e-7 * divergence).all()


def test_consistency_grows_as_the_label_is_believed_less():
    """Equal divergences, other labels: the ratio of the terms is that of the weights 1 - p_y."""
    clean, adv = logits(1).expand(4, -1), logits(1, seed=1).expand(4, -1)
    consistency = losses.mart_consistency(clean, adv, torch.arange(4))
    doubt = 1.0000001 - clean[0].softmax(0)
    torch.testing.assert_close(consistency / consistency.sum(), doubt / doubt.sum())


def test_beta_zero_leaves_the_margin_loss():
    given, model = batch(), network()
    x_adv = toys.adversary(objective("mart"), model, given, context())
    zero, five = (loss_of(objective("mart", beta=beta), model, given, x_adv) for beta in (0.0, 5.0))
    assert torch.equal(zero.total(), losses.mart_margin(model(x_adv), given.y).mean())
    assert five.total() > zero.total()


def test_the_margin_loss_exceeds_the_cross_entropy():
    adv, y = logits(), batch().y
    assert (losses.mart_margin(adv, y) > losses.cross_entropy(adv, y) - 1.001e-4).all()
    # With two classes the runner-up leaves p_y: up to the constants the cross-entropy counts twice.
    two, label = logits(12, 2), torch.arange(12) % 2
    once = losses.cross_entropy(two, label)
    torch.testing.assert_close(losses.mart_margin(two, label), once - torch.log((-once).exp() + 1e-4))


def test_the_stable_logarithm_differs_for_tiny_probabilities_only():
    clean, y = logits(), batch().y
    ordinary, sharp = logits(seed=1), logits(seed=1, scale=40.0)
    for adv, near in ((ordinary, True), (sharp, False)):
        terms = [losses.mart_consistency(clean, adv, y, stable_log=stable) for stable in (True, False)]
        assert torch.allclose(*terms, rtol=0, atol=1e-6) is near


def test_gradient_flows_through_weight_and_both_sides_but_not_through_the_choice():
    clean, adv, y = logits().requires_grad_(), logits(seed=1).requires_grad_(), batch().y
    found = torch.autograd.grad(losses.mart_consistency(clean, adv, y).sum(), (clean, adv))
    plain = torch.autograd.grad(
        ((1.0000001 - losses.cross_entropy(clean, y).neg().exp()).detach() * losses.kl(clean, adv)).sum(),
        (clean, adv),
    )
    torch.testing.assert_close(found[1], plain[1])
    assert (found[0] - plain[0]).abs().max() > 1e-3
    assert not losses.runner_up(adv, y).requires_grad


@STABLE
@pytest.mark.parametrize("right", [True, False])
def test_extreme_logits_give_finite_losses_and_gradients(right, stable_log):
    y = batch().y
    adv = 500 * torch.nn.functional.one_hot(y if right else (y + 1) % 4, 4).float()
    clean, adv = torch.zeros(12, 4, requires_grad=True), adv.requires_grad_()
    consistency = losses.mart_consistency(clean, adv, y, stable_log=stable_log)
    total = (losses.mart_margin(adv, y) + consistency).sum()
    assert torch.isfinite(total)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(total, (clean, adv)))


def test_half_precision_is_widened():
    y = batch().y
    for half in (torch.float16, torch.bfloat16):
        assert losses.mart_margin(logits().to(half), y).dtype == torch.float32
        assert losses.mart_consistency(logits().to(half), logits().to(half), y).dtype == torch.float32


def test_a_negative_weight_is_refused():
    with pytest.raises(ConfigError, match=r"beta is -1\.0, expected at least 0"):
        objective("mart", beta=-1.0)


def test_the_attack_is_the_one_of_pgd_at():
    given, model = batch(), network()
    found = [
        toys.adversary(method, model, given, context())
        for method in (objective("mart"), objective("pgd-at", start="gaussian"))
    ]
    assert torch.equal(*found)
