"""CFA: class-wise radii and factors, its three bases and the edges of its statistics."""

from dataclasses import replace

import pytest
import torch
import toys
from toys import assert_same, batch, context, loss_of, network, objective, one_step, train

from fairbench.api import Budget, convex_weights, losses
from fairbench.attacks.frozen import frozen
from fairbench.core.errors import ConfigError
from fairbench.data.batch import Batch
from fairbench.training.step import training_step

NEVER = 1000
OFF = {"scale_margin": False, "scale_factor": False}
BASES = pytest.mark.parametrize("name", ["cfa", "cfa-at", "cfa-fat"])


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def epoch_of(accuracy, count=None):
    """The statistics of an epoch with these robust accuracies; a class without images has NaN."""
    found = toys.stats(torch.eye(len(accuracy)), count)
    return replace(found, robust_accuracy=torch.where(found.count > 0, accuracy, torch.nan))


def calibrated(name, accuracy, **options):
    """The method in the epoch after one with these class accuracies."""
    method = objective(name, num_classes=len(accuracy), **{"begin_epoch": 2, **options})
    method.on_epoch_end(epoch_of(accuracy), context(1))
    return method


# The worked example: t = 0.2, 0.5, 0.8 at eps = 8/255 and beta = 6


@pytest.mark.parametrize(("base", "radius"), [(0.3, (4.0, 6.4, 8.8)), (0.5, (5.6, 8.0, 10.4))])
def test_radii_of_the_worked_example(base, radius):
    method = calibrated("cfa", values(0.2, 0.5, 0.8), margin_base=base)
    budget = method.budget(torch.tensor([0, 1, 2, 0]), context(2, budget=Budget(8 / 255, 2 / 255, 10)))
    assert (255 * budget.eps).tolist() == pytest.approx([*radius, radius[0]])
    assert budget.step_size == 2 / 255  # the same for every class


def test_factors_of_the_worked_example():
    factor = calibrated("cfa", values(0.2, 0.5, 0.8)).state.factor
    assert (6 * factor).tolist() == pytest.approx([4.2, 6.0, 7.8])
    weight = convex_weights(6.0, factor)
    assert (6 * weight["robust"]).tolist() == pytest.approx([0.8076923, 0.8571429, 0.8863636], abs=1e-7)
    torch.testing.assert_close(weight["clean"] + 6 * weight["robust"], torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize(("name", "base"), [("cfa", 0.3), ("cfa-at", 0.5), ("cfa-fat", 0.7)])
def test_each_base_has_its_published_smallest_radius(name, base):
    assert calibrated(name, values(0.0, 1.0)).state.margin.tolist() == [base, base + 1]


def test_radius_and_share_of_the_kl_grow_with_the_accuracy():
    accuracy = torch.linspace(0, 1, 21, dtype=torch.float64)
    method = calibrated("cfa", accuracy)
    share = 6 * convex_weights(6.0, method.state.factor)["robust"]
    assert (method.state.margin.diff() > 0).all()
    assert (share.diff() > 0).all()
    assert share.min() >= 0
    assert share.max() < 1


# Neutral settings


@pytest.mark.parametrize("options", [OFF, {"begin_epoch": NEVER}])
def test_cfa_without_calibration_is_trades_bit_for_bit_but_for_the_divisor(options):
    assert_same(train(objective("cfa", normalise=False, **options)), train(objective("trades")))


@pytest.mark.parametrize("options", [OFF, {"begin_epoch": NEVER}])
@pytest.mark.parametrize(("name", "own"), [("cfa-at", {}), ("cfa-fat", {"tau": toys.BUDGET.num_steps})])
def test_cfa_at_without_calibration_is_pgd_at_bit_for_bit(name, own, options):
    assert_same(train(objective(name, **own, **options)), train(objective("pgd-at")))


def test_the_settings_are_not_neutral_by_accident():
    found = {
        name: train(objective(name, begin_epoch=2))["fc.weight"] for name in ("cfa", "cfa-at", "cfa-fat")
    }
    found |= {name: train(objective(name))["fc.weight"] for name in ("trades", "pgd-at")}
    assert len({tuple(weight.flatten().tolist()) for weight in found.values()}) == 5


def test_the_uncalibrated_loss_is_that_of_trades_divided_by_one_plus_beta():
    given, gradients, total = batch(), [], []
    for name in ("trades", "cfa"):
        model, method = network().double(), objective(name, beta=6.0)
        x = Batch(given.x.double(), given.y, given.index)
        x_adv = toys.adversary(objective("trades"), model, x, context())
        total.append(loss_of(method, model, x, x_adv).total())
        gradients.append(torch.autograd.grad(total[-1], list(model.parameters())))
    torch.testing.assert_close(total[0], 7 * total[1], rtol=1e-12, atol=0)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, 7 * other, rtol=1e-9, atol=1e-15)


def test_calibration_starts_in_its_first_epoch_and_not_before():
    method, seen = objective("cfa", begin_epoch=3), []
    for epoch in (1, 2, 3):
        method.on_epoch_end(epoch_of(values(0.1 * epoch, 0.5, 0.5, 0.5)), context(epoch))
        seen.append(method.state.margin[0].item())  # of the next epoch
    assert seen == pytest.approx([1.0, 0.5, 0.6])


def test_the_loss_is_the_convex_mixture_of_its_own_class():
    given, model = batch(), network()
    method = calibrated("cfa", values(0.0, 0.3, 0.6, 1.0))
    x_adv = toys.adversary(objective("trades"), model, given, context())
    total = loss_of(method, model, given, x_adv).total()
    logits_adv, logits = model(x_adv), model(given.x)
    share = (1 - 1 / (1 + 6 * (0.5 + values(0.0, 0.3, 0.6, 1.0))))[given.y]
    expected = (1 - share) * losses.cross_entropy(logits, given.y) + share * losses.kl(logits, logits_adv)
    torch.testing.assert_close(total.double(), expected.mean(), rtol=1e-6, atol=0)


def test_the_unweighted_loss_stays_that_of_trades():
    given, model = batch(), network()
    x_adv = toys.adversary(objective("trades"), model, given, context())
    method = calibrated("cfa", values(0.0, 0.3, 0.6, 1.0))
    base = [loss_of(m, model, given, x_adv).base() for m in (method, objective("trades"))]
    assert torch.equal(*base)


# What an epoch says about a class


def test_a_class_without_images_keeps_its_values():
    method = calibrated("cfa", values(0.2, 0.4, 0.6))
    method.on_epoch_end(epoch_of(values(0.5, 0.5, 0.5), values(6, 0, 6)), context(2))
    assert method.state.margin.tolist() == pytest.approx([0.8, 0.7, 0.8])
    assert method.state.factor.tolist() == pytest.approx([1.0, 0.9, 1.0])


def test_a_class_never_seen_has_the_protocols_radius():
    method = objective("cfa", num_classes=3, begin_epoch=2)
    method.on_epoch_end(epoch_of(values(0.5, 0.5, 0.5), values(6, 0, 6)), context(1))
    assert method.state.margin.tolist() == pytest.approx([0.8, 1.0, 0.8])


def test_accuracies_divide_by_each_class_of_its_own_unless_told_otherwise():
    count = values(30, 10, 20, 0)
    found = {}
    for accuracy in ("per-class", "program"):
        method = objective("cfa", begin_epoch=2, margin_base=0.0, accuracy=accuracy)
        method.on_epoch_end(epoch_of(values(0.5, 0.5, 0.2, 0.0), count), context(1))
        found[accuracy] = method.state.margin.tolist()
    assert found["per-class"] == pytest.approx([0.5, 0.5, 0.2, 1.0])
    assert found["program"] == pytest.approx([1.0, 1 / 3, 4 / 15, 0.0])


def test_the_accuracies_are_those_of_the_adversarial_images_of_an_unbalanced_epoch():
    method, model = objective("cfa", begin_epoch=2), network()
    given = batch(labels=torch.tensor([0, 1, 1, 1, 1, 1, 2, 2]))
    totals, seen = toys.totals(method), []
    method_loss = method.loss
    method.loss = lambda *args: seen.append(method_loss(*args)) or seen[-1]
    training_step(model, method, toys.sgd(model), given, context(), totals)
    method.on_epoch_end(totals.stats(), context())
    hit = (seen[0].logits_adv.argmax(1) == given.y).double()
    expected = [0.3 + hit[given.y == label].mean().item() for label in range(3)]
    assert method.state.margin.tolist() == pytest.approx([*expected, 1.0])


def test_no_radius_exceeds_max_margin():
    method = calibrated("cfa", values(0.2, 0.7, 1.0), max_margin=1.0)
    assert method.state.margin.tolist() == pytest.approx([0.5, 1.0, 1.0])


# Edges of the radius


@BASES
def test_a_radius_of_zero_leaves_the_images_of_that_class_alone(name):
    method = calibrated(name, values(0.0, 0.5, 0.5, 1.0), margin_base=0.0, factor_base=0.0)
    given, model = batch(), network()
    ctx = context(2)
    x_adv = toys.adversary(method, model, given, replace(ctx, budget=method.budget(given.y, ctx)))
    moved = (x_adv - given.x).abs().flatten(1).amax(1)
    assert (moved[given.y == 0] == 0).all()
    assert (moved[given.y != 0] > 0).all()
    assert torch.isfinite(one_step(method, model, given, ctx))


@BASES
@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 1, 3, 3, 3]), torch.full((6,), 2), torch.tensor([3])])
@pytest.mark.parametrize("accuracy", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 0, 1)])
def test_a_calibrated_step_is_finite_for_all_wrong_all_right_and_odd_batches(name, labels, accuracy):
    method, model = calibrated(name, values(*accuracy), margin_base=0.0, factor_base=0.0), network()
    assert torch.isfinite(one_step(method, model, batch(labels=labels), context(2)))  # check: in its ball
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_the_widest_radius_is_used():
    method, given, model = calibrated("cfa-at", values(1.0, 1.0, 1.0, 1.0)), batch(), network()
    ctx = context(2, budget=Budget(0.1, 0.1, 3))
    x_adv = toys.adversary(method, model, given, replace(ctx, budget=method.budget(given.y, ctx)))
    assert 0.1 < (x_adv - given.x).abs().max() <= 0.15 + 1e-6


def test_a_step_on_relabelled_classes_is_the_relabelled_step():
    permutation, accuracy = torch.tensor([2, 0, 3, 1]), values(0.1, 0.4, 0.6, 0.9)
    back, given, found = permutation.argsort(), batch(), []
    for renamed in (False, True):
        model, method = network().double(), calibrated("cfa", accuracy[back] if renamed else accuracy)
        if renamed:
            with torch.no_grad():
                for parameter in (model.fc.weight, model.fc.bias):
                    parameter.copy_(parameter[back])
        y = permutation[given.y] if renamed else given.y
        loss = one_step(method, model, Batch(given.x.double(), y, given.index), context(2))
        found.append({"loss": loss, **model.state_dict()})
    for key, first in found[0].items():
        expected = first[back] if key.startswith("fc.") else first
        torch.testing.assert_close(found[1][key], expected, rtol=1e-9, atol=1e-11, msg=key)


# Friendly adversarial training


@pytest.mark.parametrize("tau", [1, 2, 4])
def test_a_friendly_adversary_stops_after_tau_steps_from_misclassified_points(tau):
    method, model, seen = objective("cfa-fat", tau=tau), toys.settled(), []
    images = batch(60)
    with torch.no_grad():
        given = Batch(images.x, model.eval()(images.x).argmax(1), images.index)  # all right at first
    hook = model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    with frozen(model), hook:
        last = method.perturb(model, given, context(budget=Budget(0.03, 0.005, 6)))
    with frozen(model):
        wrong = torch.stack([model(x).argmax(1) != given.y for x in seen])  # (K, B)
    moved = (torch.stack([*seen, last]).diff(dim=0) != 0).flatten(2).any(2)  # (K, B)
    assert torch.equal(moved, wrong.cumsum(0) - wrong.long() < tau)
    assert not moved.all()
    assert moved[-1].any()


def test_a_friendly_adversary_with_enough_patience_is_the_pgd_adversary():
    given, model = batch(40), toys.settled()
    friendly, stubborn, other = (
        toys.adversary(objective(name, **options), model, given, context())
        for name, options in (("cfa-fat", {"tau": 3}), ("pgd-at", {}), ("cfa-fat", {"tau": 1}))
    )
    assert torch.equal(friendly, stubborn)
    assert not torch.equal(other, stubborn)


# Forwards that BatchNorm sees


@pytest.mark.parametrize(
    ("name", "options", "forwards"),
    [
        ("cfa", {}, 2),
        ("cfa", {"bn_order": "clean-adv-clean"}, 3),
        ("cfa", {"bn_order": "clean-adv-clean", "log_forwards": True}, 4),
        ("cfa-at", {}, 1),
        ("cfa-at", {"attack_bn": "train"}, toys.BUDGET.num_steps + 1),
        ("cfa-at", {"attack_bn": "train", "log_forwards": True}, toys.BUDGET.num_steps + 2),
        ("cfa-fat", {}, 1),
        ("cfa-fat", {"attack_bn": "train", "log_forwards": True}, toys.BUDGET.num_steps + 3),
    ],
)
def test_the_number_of_train_mode_forwards(name, options, forwards):
    model = network()
    one_step(objective(name, **options), model)
    assert model.bn1.num_batches_tracked == forwards


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin_base": -0.1}, "margin_base is negative"),
        ({"factor_base": -0.1}, "factor_base is negative"),
        ({"beta": -1.0}, "beta is negative"),
        ({"max_margin": 0.0}, "max_margin is not positive"),
        ({"tau": 0}, "tau is below 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        objective("cfa", **options)
