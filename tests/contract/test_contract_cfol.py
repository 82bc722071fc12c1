"""CFOL's laws: shares between their bounds, an unbiased bandit, and one expected gradient in both forms."""

import pytest
import torch
import toys
from toys import batch, context, loss_of, network, objective

from fairbench.api import Budget, LossTerms
from fairbench.core.errors import ConfigError

FORMS = pytest.mark.parametrize("form", ["sampling", "reweight"])


def cfol(num_classes=4, weight=None, **options):
    """The method with an eta that shows, and log-weights where given."""
    method = objective("cfol", num_classes, **{"eta": 0.01, "eta_images": 0, **options})
    if weight is not None:
        method.state.log_weight.copy_(torch.tensor(weight))
    return method


def answer(method, labels, wrong):
    """Tell the bandit that the images with `labels` were classified wrongly where `wrong`."""
    y = torch.tensor(labels)
    given = batch(len(y), method.info.num_classes, labels=y)
    predicted = torch.where(torch.tensor(wrong), (y + 1) % method.info.num_classes, y)
    logits = torch.nn.functional.one_hot(predicted, method.info.num_classes).double()
    method.on_step_end(given, LossTerms(logits_adv=logits, robust=torch.zeros(len(y))), context())


def share(method):
    return method.class_share(context())


@FORMS
def test_without_a_step_size_or_a_learned_part_the_shares_stay_those_of_the_base(form):
    for options in ({"eta": 0.0}, {"gamma": 1.0}):
        method = cfol(form=form, **options)
        answer(method, [0, 0, 1, 2], [True, True, False, True])
        assert share(method).tolist() == [0.25] * 4


def test_the_empirical_base_is_as_frequent_as_the_data():
    method = cfol(base="empirical", gamma=1.0)
    count = torch.tensor(method.info.class_count)
    torch.testing.assert_close(share(method), count.double() / count.sum())


@pytest.mark.parametrize("weight", [[0.0] * 10, [50.0] + [0.0] * 9, [1.0, -3.0] * 5])
def test_shares_stay_between_their_bounds_and_sum_to_one(weight):
    p = share(cfol(10, weight, gamma=0.5))
    assert float(p.sum()) == pytest.approx(1)
    assert (p >= 0.05 - 1e-12).all()
    assert (p <= 0.55 + 1e-12).all()


@FORMS
def test_the_bandit_is_unbiased_whatever_the_shares(form):
    """By drawing class c with p_c, or all alike, an image that is wrong raises w_c by eta on average."""
    for c in range(4):
        method = cfol(weight=[2.0, 0.0, -1.0, 0.5], form=form)
        drawn = share(method) if form == "sampling" else torch.full((4,), 0.25, dtype=torch.float64)
        before = method.state.log_weight.clone()
        answer(method, [c], [True])
        increase = method.state.log_weight - before
        assert float(drawn[c] * increase[c]) == pytest.approx(0.01)
        assert increase.count_nonzero() == 1


def test_all_images_of_a_batch_are_counted_with_the_shares_of_before():
    method = cfol(weight=[2.0, 0.0, -1.0, 0.5], bonus=0.001)
    before, p = method.state.log_weight.clone(), share(method)
    answer(method, [0, 0, 2, 3], [True, True, False, True])
    expected = torch.tensor([0.022, 0.0, 0.001, 0.011], dtype=torch.float64) / p
    torch.testing.assert_close(method.state.log_weight - before, expected)


def test_a_class_that_is_always_wrong_is_drawn_more_and_more():
    method, seen = cfol(), []
    for _ in range(5):
        answer(method, [0, 1, 2, 3], [False, False, True, False])
        seen.append(float(share(method)[2]))
    assert seen == sorted(seen)
    assert seen[0] > 0.25


def test_a_constant_added_to_all_weights_changes_nothing():
    one, other = cfol(weight=[1.0, 2.0, 3.0, 4.0]), cfol(weight=[0.0, 1.0, 2.0, 3.0])
    torch.testing.assert_close(share(one), share(other))


def test_drawing_and_weighting_have_the_same_expected_gradient():
    weight, given = [2.0, 0.0, -1.0, 0.5], batch(24)
    x_adv = (given.x + 0.05).clamp(0, 1)

    def gradient(form, part):
        model = network().eval()  # so that the loss of an image does not depend on the batch
        method = cfol(weight=weight, form=form)
        chosen = type(given)(given.x[part], given.y[part], given.index[part])
        return torch.autograd.grad(loss_of(method, model, chosen, x_adv[part]).total(), model.fc.weight)[0]

    weighted = gradient("reweight", torch.ones(24, dtype=torch.bool))
    p = share(cfol(weight=weight))
    drawn = sum(p[c] * gradient("sampling", given.y == c) for c in range(4))
    torch.testing.assert_close(drawn.float(), weighted)


@pytest.mark.parametrize("num_steps", [1, 2, 6, 7, 8])
def test_the_kept_iterate_is_the_one_after_the_largest_mean_loss(num_steps):
    given, model = batch(), network()
    budget, seen = Budget(0.1, 0.1, num_steps), []

    def watch(module, inputs, output):
        if inputs[0].requires_grad:
            seen.append((inputs[0].detach(), torch.nn.functional.cross_entropy(output, given.y).item()))

    with model.register_forward_hook(watch):
        last = toys.adversary(cfol(), model, given, context(budget=budget))
    following = [*(x for x, _ in seen[1:]), last]
    largest = max(range(num_steps), key=lambda k: seen[k][1])
    kept = toys.adversary(cfol(keep_best=True), model, given, context(budget=budget))
    assert torch.equal(kept, following[largest])


def test_the_forms_need_what_they_use():
    assert cfol().resolved_needs().sampling == "classes"
    assert cfol(form="reweight").resolved_needs().sampling is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 1.5}, r"gamma is 1\.5, expected 0 to 1"),
        ({"eta": -1.0}, r"eta is -1\.0"),
        ({"bonus": -1.0}, "bonus is"),
        ({"eta_images": -1}, "eta_images is -1"),
    ],
)
def test_values_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        cfol(**options)
