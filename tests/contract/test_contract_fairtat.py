"""FAIR-TAT: where the targets come from, class-wise radii, and the edges of both."""

from dataclasses import replace

import pytest
import torch
import toys
from toys import assert_same, batch, context, loss_of, network, objective, one_step, train

from fairbench.api import Budget, classes, losses
from fairbench.core.errors import ConfigError
from fairbench.data.batch import Batch

NEVER = 1000
BASES = pytest.mark.parametrize("name", ["fairtat", "fairtat-at"])
# Rows are true classes; 100 images of each.
CONFUSION = torch.tensor([[50, 30, 20], [10, 80, 10], [25, 25, 50]], dtype=torch.float64)


def epoch_of(confusion):
    """The statistics of an epoch in which class i was taken for class j as often as this table says."""
    confusion = torch.as_tensor(confusion, dtype=torch.float64)
    count = confusion.sum(1)
    found = toys.stats(torch.eye(len(confusion)), count)
    return replace(found, robust_accuracy=confusion.diagonal() / count, robust_confusion=confusion)


def informed(name, confusion, **options):
    """The method in the epoch after one with this confusion."""
    method = objective(name, num_classes=len(confusion), **options)
    method.on_epoch_end(epoch_of(confusion), context(1))
    return method


def drawn(method, label, draws=4000, epoch=2):
    """Shares (C,) of the targets of many samples with this label."""
    target = method.targets(torch.full((draws,), label), context(epoch))
    return torch.bincount(target, minlength=method.info.num_classes) / draws


# The worked example


def test_shares_of_errors_of_the_worked_example():
    landed, made = (classes.error_share(CONFUSION, side) for side in ("predicted", "true"))
    assert landed.tolist() == pytest.approx([35 / 120, 55 / 120, 30 / 120])
    assert made.tolist() == pytest.approx([50 / 120, 20 / 120, 50 / 120])


def test_prior_and_radii_of_the_worked_example():
    method = informed("fairtat", CONFUSION)
    assert method.state.prior.tolist() == pytest.approx([0.30159937, 0.42091582, 0.27748481], abs=1e-8)
    budget = method.budget(torch.arange(3), context(2, budget=Budget(8 / 255, 2 / 255, 10)))
    assert (255 * budget.eps).tolist() == pytest.approx([8.0, 10.4, 8.0])
    assert budget.step_size == 2 / 255


@pytest.mark.parametrize("collisions", ["redraw", "program"])
@pytest.mark.parametrize(
    ("label", "expected"),
    [
        (0, (0, 0.60268534, 0.39731466)),
        (1, (0.52082129, 0, 0.47917871)),
        (2, (0.41742979, 0.58257021, 0)),
    ],
)
def test_targets_follow_the_prior_of_the_other_classes(label, expected, collisions):
    shares = drawn(informed("fairtat", CONFUSION, collisions=collisions), label)
    assert shares[label] == 0
    torch.testing.assert_close(shares, torch.tensor(expected), rtol=0, atol=4 * 0.5 / 4000**0.5)


@pytest.mark.parametrize(
    ("radius", "statistic"),
    [("robust", (0.5, 0.8, 0.5)), ("cfps", (70 / 120, 110 / 120, 0.5)), ("cfns", (5 / 12, 2 / 12, 5 / 12))],
)
def test_the_radius_follows_the_chosen_statistic(radius, statistic):
    margin = informed("fairtat", CONFUSION, radius=radius, margin_base=0.25).state.margin
    assert margin.tolist() == pytest.approx([0.25 + value for value in statistic])


def test_the_prior_sums_to_one_and_grows_with_the_share_of_false_positives():
    table = 10 * torch.rand(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    prior = informed("fairtat", table).state.prior
    share = classes.error_share(table, "predicted")
    assert share.sum().item() == pytest.approx(1)
    assert prior.sum().item() == pytest.approx(1)
    assert (prior[share.argsort()].diff() > 0).all()
    assert prior.max() <= prior.min() * torch.e**2


def test_the_proportional_prior_is_the_share_of_false_positives():
    prior = informed("fairtat", CONFUSION, prior="proportional").state.prior
    assert torch.equal(prior, classes.error_share(CONFUSION, "predicted"))


# Neutral settings

NEUTRAL = [{"begin_epoch": NEVER}, {"prior": "uniform", "scale_margin": False}]


@pytest.mark.parametrize("options", NEUTRAL)
def test_fairtat_without_its_statistics_is_targeted_trades_bit_for_bit_but_for_the_divisor(options):
    found = train(objective("fairtat", normalise=False, **options))
    assert_same(found, train(objective("targeted-trades")))


def test_the_statistics_are_not_neutral_by_accident():
    base = train(objective("targeted-trades"))["fc.weight"]
    for options in ({}, {"prior": "uniform"}, {"scale_margin": False}):
        assert not torch.equal(train(objective("fairtat", normalise=False, **options))["fc.weight"], base)


def test_the_first_epoch_is_that_of_targeted_trades():
    runs = (objective("fairtat", normalise=False), objective("targeted-trades"))
    assert_same(*(train(method, epochs=1) for method in runs))


def test_the_loss_is_that_of_targeted_trades_divided_by_one_plus_beta():
    given, model = batch(), network().double()
    x = Batch(given.x.double(), given.y, given.index)
    x_adv = toys.adversary(objective("targeted-trades"), model, x, context())
    ours, theirs = (loss_of(objective(name), model, x, x_adv) for name in ("fairtat", "targeted-trades"))
    torch.testing.assert_close(7 * ours.total(), theirs.total(), rtol=1e-12, atol=0)
    assert torch.equal(ours.base(), theirs.base())


# Targets


@pytest.mark.parametrize("prior", ["cfps", "proportional", "uniform"])
@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_the_target_is_never_the_label(prior, epoch, seed):
    method = informed("fairtat", CONFUSION, prior=prior)
    label = torch.arange(60) % 3
    assert (method.targets(label, context(epoch, seed=seed)) != label).all()


@pytest.mark.parametrize("options", [{}, {"prior": "proportional"}, {"collisions": "program"}])
def test_with_two_classes_the_target_is_the_other_one(options):
    method, label = informed("fairtat", [[5, 3], [0, 8]], **options), torch.arange(20) % 2
    if options.get("collisions") == "program":  # where two samples or none draw their own label
        for seed in range(5):
            target = method.targets(label, context(2, seed=seed))
            assert (target == label).sum() <= 1
    else:
        assert torch.equal(method.targets(label, context(2)), 1 - label)


def test_the_label_stays_the_only_draw_of_its_kind_only_as_the_program_does():
    label, kept = torch.arange(4), {"redraw": 0, "program": 0}
    for name in kept:
        method = informed("fairtat", torch.ones(4, 4), collisions=name)
        for seed in range(100):
            own = (method.targets(label, context(2, seed=seed)) == label).sum().item()
            assert own <= 1
            kept[name] += own
    assert kept["redraw"] == 0
    assert 20 < kept["program"] < 65  # 100 batches, 4 (1/4) (3/4)^3 = 0.42 of them


@pytest.mark.parametrize("prior", ["cfps", "proportional"])
def test_an_epoch_without_a_mistake_gives_uniform_targets(prior):
    method = informed("fairtat", 9 * torch.eye(4), prior=prior)
    assert torch.isfinite(method.state.prior).all()
    torch.testing.assert_close(drawn(method, 1), torch.tensor([1, 0, 1, 1]) / 3, rtol=0, atol=0.04)


def test_samples_of_the_only_class_with_false_positives_get_uniform_targets():
    method = informed("fairtat", [[9, 0, 0], [4, 5, 0], [2, 0, 7]], prior="proportional")
    assert method.state.prior.tolist() == [1, 0, 0]
    assert drawn(method, 2).tolist() == [1, 0, 0]
    torch.testing.assert_close(drawn(method, 0), torch.tensor([0, 0.5, 0.5]), rtol=0, atol=0.04)


def test_a_class_without_images_keeps_its_radius_and_can_still_be_a_target():
    method = informed("fairtat", CONFUSION)
    method.on_epoch_end(epoch_of([[5, 3, 2], [0, 0, 0], [0, 3, 7]]), context(2))
    assert method.state.margin.tolist() == pytest.approx([1.0, 1.3, 1.2])
    assert method.state.prior.argmax() == 1


def test_accuracies_divide_by_each_class_of_its_own_unless_told_otherwise():
    table = [[10, 20, 0], [0, 5, 5], [0, 0, 20]]
    found = {
        rule: informed("fairtat", table, margin_base=0.0, accuracy=rule).state.margin.tolist()
        for rule in ("per-class", "program")
    }
    assert found["per-class"] == pytest.approx([1 / 3, 0.5, 1.0])
    assert found["program"] == pytest.approx([0.5, 0.25, 1.0])


# The adversary and the loss


@BASES
def test_the_adversary_lowers_the_cross_entropy_to_the_target_and_the_loss_has_the_label(name):
    method, model, given = informed(name, torch.ones(4, 4)), toys.settled(), batch(24)
    ctx = context(2)
    ctx = replace(ctx, budget=method.budget(given.y, ctx))
    target = method.targets(given.y, ctx)
    x_adv = toys.adversary(method, model, given, ctx)
    with torch.no_grad():
        before, after = (losses.cross_entropy(model.eval()(x), target) for x in (given.x, x_adv))
    assert (after < before).all()
    terms = loss_of(method, model.train(), given, x_adv).terms
    if name == "fairtat":
        clean = losses.cross_entropy(model(given.x), given.y)
        torch.testing.assert_close(terms["clean"], clean, rtol=1e-6, atol=1e-7)
    else:
        robust = losses.cross_entropy(model(x_adv), given.y)
        torch.testing.assert_close(terms["robust"], robust, rtol=1e-6, atol=1e-7)


@BASES
def test_a_radius_of_zero_leaves_the_images_of_that_class_alone(name):
    method = informed(name, [[0, 3, 3, 0], [1, 5, 0, 0], [0, 0, 6, 0], [1, 1, 1, 3]], margin_base=0.0)
    given, model, ctx = batch(), network(), context(2)
    x_adv = toys.adversary(method, model, given, replace(ctx, budget=method.budget(given.y, ctx)))
    moved = (x_adv - given.x).abs().flatten(1).amax(1)
    assert (moved[given.y == 0] == 0).all()
    assert (moved[given.y != 0] > 0).all()


TABLES = {
    "all right": 6 * torch.eye(4),
    "all wrong": 2 * (1 - torch.eye(4)),
    "all taken for one class": torch.tensor([[6, 0, 0, 0]] * 4),
    "a class is absent": torch.tensor([[3, 3, 0, 0], [0, 0, 0, 0], [1, 1, 4, 0], [0, 0, 0, 6]]),
}


@BASES
@pytest.mark.parametrize("prior", ["cfps", "proportional"])
@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 1, 3, 3, 3]), torch.full((6,), 2), torch.tensor([3])])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_a_step_after_an_odd_epoch_on_an_odd_batch_is_finite(name, prior, labels, table):
    method, model = informed(name, table, prior=prior, margin_base=0.0), network()
    assert torch.isfinite(method.state.margin).all()
    assert torch.isfinite(one_step(method, model, batch(labels=labels), context(2)))
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


@pytest.mark.parametrize(
    ("name", "options", "forwards"),
    [
        ("fairtat", {}, 2),
        ("fairtat", {"bn_order": "clean-adv-clean"}, 3),
        ("fairtat", {"log_forwards": True}, 3),
        ("fairtat-at", {}, toys.BUDGET.num_steps + 1),
        ("fairtat-at", {"log_forwards": True}, toys.BUDGET.num_steps + 3),
        ("fairtat-at", {"attack_bn": "eval"}, 1),
        ("fairtat-at", {"attack_bn": "eval", "log_forwards": True}, 3),
    ],
)
def test_the_number_of_train_mode_forwards(name, options, forwards):
    model = network()
    one_step(objective(name, **options), model)
    assert model.bn1.num_batches_tracked == forwards


@pytest.mark.parametrize("option", ["margin_base", "beta"])
def test_settings_that_make_no_sense_are_refused(option):
    with pytest.raises(ConfigError, match=f"{option} is negative"):
        objective("fairtat", **{option: -0.5})
