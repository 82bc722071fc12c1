"""RSLAD's laws: the distance to the teacher, its bounds, and what the options change."""

import fairbench_methods.rslad as rslad
import pytest
import torch
import toys
from toys import batch, context, loss_of, network, objective

from fairbench.core.errors import ConfigError
from fairbench.objectives.teachers import Teachers


def logits(seed, num_classes=6, scale=3.0):
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(40, num_classes, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.1, 3.0, 300.0])
def test_the_distance_of_equal_predictions_is_at_most_the_offset_of_all_classes(scale):
    t = logits(0, scale=scale)
    found = rslad.distance(t, t)
    assert (found >= 0).all()
    assert (found <= 6 * rslad.OFFSET).all()


def test_the_distance_is_the_divergence_up_to_the_offset_with_the_same_gradient():
    t, s = logits(0), logits(1).requires_grad_()
    divergence = torch.nn.functional.kl_div(s.log_softmax(1), t.softmax(1), reduction="none").sum(1)
    found = rslad.distance(t, s)
    torch.testing.assert_close(found, divergence, rtol=0, atol=1e-4)
    gradients = [torch.autograd.grad(value.sum(), s, retain_graph=True)[0] for value in (found, divergence)]
    torch.testing.assert_close(*gradients)


def test_a_student_that_is_its_teacher_has_next_to_no_loss():
    model, given = network().eval(), batch()
    ctx = context(teacher=Teachers({"teacher": toys.network()}))
    terms = objective("rslad").loss(model, given, given.x, ctx)
    assert 0 <= terms.total().item() <= 4 * rslad.OFFSET / 10 + 1e-7  # of rounding in single precision


def test_both_terms_have_their_share_and_the_divisor():
    model, given = network(), batch()
    x_adv = (given.x + 0.05).clamp(0, 1)
    base, other = (
        loss_of(objective("rslad", **options), network(), given, x_adv)
        for options in ({}, {"adv_share": 0.25, "divisor": 5.0})
    )
    torch.testing.assert_close(other.terms["robust"] * 5 / 0.25, base.terms["robust"] * 10 * 6 / 5)
    torch.testing.assert_close(other.terms["clean"] * 5 / 0.75, base.terms["clean"] * 10 * 6)
    assert model.bn1.num_batches_tracked == 0


def test_labels_are_not_used():
    given, other = batch(), batch(labels=torch.arange(12).roll(1) % 4)
    other = type(given)(given.x, other.y, given.index)
    found = []
    for each in (given, other):
        method, model = objective("rslad"), network()
        found.append({"loss": toys.one_step(method, model, each), **toys.copied(model.state_dict())})
    toys.assert_same(*found)


@pytest.mark.parametrize("options", [{"adv_share": -0.1}, {"adv_share": 1.1}, {"divisor": 0.0}])
def test_values_that_cannot_be_are_refused(options):
    with pytest.raises(ConfigError, match=f"{next(iter(options))} is"):
        objective("rslad", **options)
