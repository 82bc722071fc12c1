"""Mixed images: each label by its share in loss, budget and attack, and the network seen once."""

from dataclasses import replace

import pytest
import torch
import toys
from toys import assert_same, batch, context, network, objective, weigh

from fairbench.api import AdversarialObjective, Batch, LossTerms, Needs, attacks, classes, losses, method
from fairbench.attacks.budget import Budget
from fairbench.attacks.draws import Draws
from fairbench.attacks.frozen import frozen
from fairbench.attacks.labels import Labels, dominant, labels
from fairbench.core.errors import ContractError
from fairbench.registry.components import WeightPerturbation
from fairbench.testing.device_laws import Operations
from fairbench.training.mixed_labels import as_attacked, budget_of, loss_terms
from fairbench.training.step import training_step

EVERY_METHOD = pytest.mark.parametrize("name", toys.METHODS)
WEIGHT = (0.5, 1.5, 0.8, 1.2)
CPU = torch.device("cpu")


def mixed(lam=0.7, given=None, y2=None):
    """A batch of mixed images; `lam` is a number, or one for each image."""
    found = toys.mixed(lam, given)
    return found if y2 is None else replace(found, y2=y2)


def weighted(name):
    """A method whose state is not neutral: class weights, radii and multipliers that differ."""
    found, values = objective(name), torch.tensor(WEIGHT, dtype=torch.float64)
    for part in ("weight", "margin", "factor"):
        if hasattr(found.state, part):
            setattr(found.state, part, values.clone())
    for part in ("clean_multiplier", "boundary_multiplier", "margin_multiplier"):
        if hasattr(found.state, part):
            setattr(found.state, part, (values - 0.5) / 10)
    return found


def step(found, given, *, model=None, awp=None, check=True):
    """Everything that a step of training leaves behind."""
    model, seen = network() if model is None else model, toys.totals(found)
    optimizer = toys.sgd(model)
    loss = training_step(model, found, optimizer, given, context(), seen, check=check, awp=awp)
    totals = {f"total.{key}": value for key, value in seen.sums.items()}
    return {"loss": loss, **model.state_dict(), **totals}


def attacked(found, model, given):
    """The context of a step with its budget, and the adversary."""
    ctx = replace(context(), budget=budget_of(found, given, context()))
    with frozen(model, found.resolved_needs().attack_bn):
        return ctx, found.perturb(model, as_attacked(given), ctx)


def by_label(given, y):
    return Batch(given.x, y, given.index)


# What must not change


@EVERY_METHOD
def test_a_share_of_one_is_training_without_mixing_bit_for_bit(name):
    assert_same(step(weighted(name), mixed(1.0)), step(weighted(name), batch()))


@EVERY_METHOD
def test_equal_labels_are_one_label(name):
    given = mixed(0.7, y2=batch().y)
    plain = by_label(given, given.y)
    found, before = step(weighted(name), given), step(weighted(name), plain)
    for key in before:
        if not key.startswith("total.") or "term" in key:  # what is counted is counted by the share
            torch.testing.assert_close(found[key], before[key], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["total.count"], 0.7 * before["total.count"])


@EVERY_METHOD
def test_every_method_trains_on_mixed_images(name):
    found, plain = step(weighted(name), mixed(0.6)), step(weighted(name), batch())
    assert all(bool(torch.isfinite(value).all()) for value in found.values())
    assert not torch.equal(found["fc.weight"], plain["fc.weight"])


@EVERY_METHOD
def test_batch_norm_sees_the_images_as_often_and_the_network_runs_as_often(name):
    counts = []
    for given in (batch(), mixed(0.6)):
        model, forwards = network(), []
        run = model.conv1.forward
        model.conv1.forward = lambda x, run=run, forwards=forwards: forwards.append(len(x)) or run(x)
        step(weighted(name), given, model=model, check=False)
        counts.append((len(forwards), int(model.bn1.num_batches_tracked)))
    assert counts[0] == counts[1]


@EVERY_METHOD
def test_the_model_has_its_own_forward_again(name):
    model = network()
    step(weighted(name), mixed(), model=model)
    assert "forward" not in vars(model)


# The loss


def both_outputs(model, given, x_adv):
    """Clean and adversarial outputs in the order of `adv-clean`."""
    logits_adv = model(x_adv)
    return model(given.x), logits_adv


def prepared(name, lam=0.7):
    """A method and mixed images in double precision, with their adversary and two copies of the network."""
    found, model, twin = weighted(name), network().double(), network().double()
    plain = batch()
    given = mixed(lam, Batch(plain.x.double(), plain.y, plain.index))
    ctx, x_adv = attacked(found, model, given)
    model.train(), twin.train()
    return found, model, twin, given, ctx, x_adv


def gradients(value, model):
    return torch.autograd.grad(value, list(model.parameters()), allow_unused=True, materialize_grads=True)


def assert_same_loss(found, model, twin, given, ctx, x_adv, expected):
    """The trainer's loss and gradients are those of the scalar `expected(logits, logits_adv)`."""
    total = loss_terms(found, model, given, x_adv, ctx, check=True).total()
    direct = expected(*both_outputs(twin, given, x_adv))
    torch.testing.assert_close(total, direct, rtol=1e-12, atol=1e-12)
    for one, other in zip(gradients(total, model), gradients(direct, twin), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_loss_of_trades_is_a_paired_cross_entropy_and_one_kl():
    case = prepared("trades", torch.linspace(0.5, 1, 12))
    *_, given, _, _ = case

    def expected(logits, logits_adv):
        rows, log_p = torch.arange(12), logits.log_softmax(1)
        clean = -(given.lam * log_p[rows, given.y] + (1 - given.lam) * log_p[rows, given.y2])
        return clean.mean() + 6.0 * losses.kl(logits, logits_adv).mean()

    assert_same_loss(*case, expected)


@pytest.mark.parametrize("name", ["dafa", "trix"])
def test_class_weights_go_with_their_own_label(name):
    case = prepared(name)
    *_, given, _, _ = case
    weight = torch.tensor(WEIGHT, dtype=torch.float64)

    def expected(logits, logits_adv):
        first = weight[given.y] * losses.cross_entropy(logits, given.y)
        second = weight[given.y2] * losses.cross_entropy(logits, given.y2)
        clean = given.lam * first + (1 - given.lam) * second
        return clean.mean() + 6.0 * losses.kl(logits, logits_adv).mean()

    assert_same_loss(*case, expected)


def test_a_loss_divided_by_its_weights_divides_by_the_mixed_ones():
    case = prepared("frl")
    found, *_, given, _, _ = case
    state = found.state

    def expected(logits, logits_adv):
        clean, boundary = (
            1 / 4 + multiplier - multiplier.mean()
            for multiplier in (state.clean_multiplier, state.boundary_multiplier)
        )
        lam, y, y2 = given.lam, given.y, given.y2
        entropy = lam * clean[y] * losses.cross_entropy(logits, y)
        entropy = entropy + (1 - lam) * clean[y2] * losses.cross_entropy(logits, y2)
        weight = lam * boundary[y] + (1 - lam) * boundary[y2]
        divergence = (weight * losses.kl(logits, logits_adv)).sum() / weight.sum()
        return entropy.sum() / (lam * clean[y] + (1 - lam) * clean[y2]).sum() + 1.5 * divergence

    assert_same_loss(*case, expected)


def test_a_weighted_term_without_labels_has_the_mean_weight():
    found, model, twin, given, ctx, x_adv = prepared("wat")
    terms = loss_terms(found, model, given, x_adv, ctx)
    weight = found.class_weight()
    mean = given.lam * weight[given.y] + (1 - given.lam) * weight[given.y2]
    logits, logits_adv = both_outputs(twin, given, x_adv)
    robust = (mean * 6.0 * losses.kl(logits, logits_adv)).mean()
    torch.testing.assert_close(terms.reduced()["robust"], robust, rtol=1e-12, atol=1e-12)


def test_the_loss_without_weights_is_paired_as_well_and_weights_of_zero_do_no_harm():
    found, model, _, given, ctx, x_adv = prepared("dafa")
    weigh(found, 0.0, 0.0, 0.0, 0.0)
    terms = loss_terms(found, model, given, x_adv, ctx)
    assert torch.isfinite(terms.total())
    assert float(terms.reduced()["clean"].detach()) == 0
    plain, same = objective("trades"), network().double()
    torch.testing.assert_close(terms.base(), loss_terms(plain, same, given, x_adv, ctx).total())


def test_scalar_terms_count_by_the_share():
    one, two = (LossTerms(rule=torch.tensor(value)) for value in (1.0, 2.0))
    assert float(one.mixed(two, torch.full((3,), 0.75)).total()) == pytest.approx(1.25)


# Methods that cannot be paired as they are


class Unsteady(AdversarialObjective):
    """Has to be subclassed: its loss shows the network what `shown` says."""

    def perturb(self, model, batch, ctx):
        return batch.x

    def loss(self, model, batch, x_adv, ctx):
        outputs = [model(each) for each in self.shown(batch, x_adv)]
        return LossTerms(clean=losses.cross_entropy(outputs[0], batch.y))


def shows(shown):
    return method("unsteady")(type("Shown", (Unsteady,), {"shown": lambda self, *images: shown(*images)}))


@pytest.mark.parametrize(
    "shown",
    [
        lambda given, x_adv: [given.x * given.y.view(-1, 1, 1, 1)],
        lambda given, x_adv: [given.x] * (1 + int(given.y[0])),
        lambda given, x_adv: [given.x[: len(given.y) - int(given.y[0])]],
    ],
    ids=["other images", "other forwards", "fewer images"],
)
def test_forwards_that_depend_on_the_labels_are_refused(shown):
    found, given = toys.configured(shows(shown)), mixed()
    with pytest.raises(ContractError, match="images that depend on the labels") as error:
        loss_terms(found, network(), given, given.x, context(), check=True)
    assert "one_label=True" in error.value.hint


def test_equal_images_need_not_be_the_same_tensor():
    found = toys.configured(shows(lambda given, x_adv: [given.x.clone()]))
    loss_terms(found, network(), mixed(), mixed().x, context(), check=True)


def test_other_terms_for_another_label_are_refused():
    clean = LossTerms(clean=torch.ones(3))
    with pytest.raises(ContractError, match="different terms for different labels"):
        clean.mixed(LossTerms(robust=torch.ones(3)), torch.ones(3))


def test_one_label_is_what_a_method_says_and_nothing_else_says_it():
    assert Needs(one_label=True).one_label
    assert not any(toys.objective(name).resolved_needs().one_label for name in toys.METHODS)


# The budget


@pytest.mark.parametrize("name", ["dafa", "trix", "cfa", "fairtat", "frl"])
def test_radius_and_step_are_mixed(name):
    found, given = weighted(name), mixed(torch.linspace(0.5, 1, 12))
    budget = budget_of(found, given, context())
    one, two = (found.budget(label, context()) for label in (given.y, given.y2))
    lam = given.lam.double()
    torch.testing.assert_close(budget.eps, lam * one.eps + (1 - lam) * two.eps)
    if isinstance(one.step_size, float):
        assert budget.step_size == one.step_size
    else:
        torch.testing.assert_close(budget.step_size, lam * one.step_size + (1 - lam) * two.step_size)
    assert budget.num_steps == one.num_steps


def test_a_budget_without_classes_stays_as_it_is():
    budget = Budget(0.031, 0.007, 10)
    assert budget.mixed(Budget(0.031, 0.007, 10), torch.full((3,), 0.7)) == budget
    mean = budget.mixed(Budget(0.062, 0.007, 10), torch.full((3,), 0.5))
    torch.testing.assert_close(mean.eps, torch.full((3,), 0.0465))


def test_adversaries_stay_in_the_mixed_ball():
    found, given = weighted("dafa"), mixed()
    step(found, given, check=True)  # raises when they leave it
    ctx, x_adv = attacked(found, network(), given)
    radius = (x_adv - given.x).abs().flatten(1).amax(1)
    torch.testing.assert_close(radius, ctx.budget.eps.float(), rtol=0.05, atol=1e-6)


# The attack


@pytest.mark.parametrize("name", ["pgd-at", "mart", "dafa-pgd", "cfa-at", "cfa-fat"])
def test_an_attack_on_the_cross_entropy_raises_that_of_both_labels(name):
    found, model, given = objective(name), network(), mixed(0.6)
    ctx, x_adv = attacked(found, model, given)
    _, one = attacked(found, model, by_label(given, given.y))
    assert not torch.equal(x_adv, one)
    if name == "pgd-at":
        with frozen(model):
            expected = attacks.pgd(
                model,
                given.x,
                lambda logits: (
                    0.6 * losses.cross_entropy(logits, given.y) + 0.4 * losses.cross_entropy(logits, given.y2)
                ),
                budget=ctx.budget,
                start="uniform",
                rng=ctx.rng("attack"),
            )
        torch.testing.assert_close(x_adv, expected)


@pytest.mark.parametrize("name", ["trades", "wat", "frl"])
def test_an_attack_without_labels_is_the_same_in_the_same_ball(name):
    found, model, given = objective(name), network(), mixed(0.6)
    _, x_adv = attacked(found, model, given)
    _, one = attacked(found, model, by_label(given, given.y))
    assert torch.equal(x_adv, one)


def test_the_double_step_of_dafa_uses_the_mixed_ball():
    found, given = weighted("dafa-pgd"), mixed(0.6)
    double = toys.configured(type(found), 4, base="pgd-at-double-step")
    double.state.weight = found.state.weight
    wide = super(type(double), double).budget(as_attacked(given).y, context())
    torch.testing.assert_close(wide.eps, budget_of(found, given, context()).eps)
    step(double, given)


def test_any_function_of_labels_can_be_paired():
    given = mixed(torch.linspace(0.5, 1, 12))
    logits = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))

    def margin(y):
        return -logits.gather(1, y[:, None]).squeeze(1)

    expected = given.lam * margin(given.y) + (1 - given.lam) * margin(given.y2)
    for each in (given, as_attacked(given)):
        torch.testing.assert_close(each.paired(margin), expected)
    assert torch.equal(batch().paired(margin), margin(batch().y))
    entropy = given.paired(lambda y: losses.cross_entropy(logits, y))
    assert torch.equal(losses.cross_entropy(logits, as_attacked(given).y), entropy)
    assert torch.equal(as_attacked(given).paired(lambda y: losses.cross_entropy(logits, y)), entropy)


@pytest.mark.parametrize("num_classes", [2, 3, 10])
def test_targets_avoid_both_labels_and_all_others_are_equally_likely(num_classes):
    count = 30000
    first = torch.arange(count) % num_classes
    second = (first + 1 + torch.arange(count) // num_classes % (num_classes - 1)) % num_classes
    drawn = Draws(0, CPU).other_class(labels(first, second, torch.full((count,), 0.6)), num_classes)
    assert type(drawn) is torch.Tensor
    assert not (drawn == first).any()
    if num_classes > 2:
        assert not (drawn == second).any()
        away = (drawn - first) % num_classes
        others = [
            (away[(second - first) % num_classes == gap]).bincount(minlength=num_classes) for gap in (1, 2)
        ]
        for gap, found in zip((1, 2), others, strict=True):
            rest = [c for c in range(num_classes) if c not in (0, gap)]
            share = found[rest] / found.sum()
            assert share.tolist() == pytest.approx([1 / len(rest)] * len(rest), abs=0.05)


def test_targets_of_whole_images_are_those_without_mixing():
    first, second = torch.arange(500) % 5, torch.arange(500) % 3
    plain = Draws(0, CPU).other_class(first, 5)
    assert torch.equal(Draws(0, CPU).other_class(labels(first, second, torch.ones(500)), 5), plain)
    assert torch.equal(Draws(0, CPU).other_class(labels(first, first, torch.full((500,), 0.6)), 5), plain)


@pytest.mark.parametrize("prior", ["cfps", "proportional", "uniform"])
def test_fair_tat_avoids_both_labels(prior):
    found = objective("fairtat", prior=prior)
    found.state.prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    for number in range(20):
        given = mixed(0.6)
        target = found.targets(as_attacked(given).y, context(5, number))
        assert not ((target == given.y) | (target == given.y2)).any()


def test_trix_chooses_its_adversary_by_the_dominant_label():
    found, given = objective("trix"), mixed(0.6)
    logits = network()(given.x).detach()
    targeted = found.targeted(logits, as_attacked(given).y, context())
    assert torch.equal(targeted, found.targeted(logits, given.y, context()))
    assert type(targeted) is torch.Tensor


def test_what_is_computed_from_labels_is_plain_and_of_the_dominant_one():
    given = mixed(0.6)
    both = as_attacked(given).y
    assert isinstance(both, Labels)
    assert torch.equal(dominant(both), given.y)
    for found, plain in ((both + 1, given.y + 1), (both == 2, given.y == 2), (both[2:], given.y[2:])):
        assert type(found) is torch.Tensor
        assert torch.equal(found, plain)
    means = classes.class_means(torch.eye(4)[given.y], both, 4)
    assert torch.equal(means, classes.class_means(torch.eye(4)[given.y], given.y, 4))


# Statistics, hooks, weight perturbation


def test_statistics_are_credited_to_the_dominant_label_by_its_share():
    lam = torch.linspace(0.5, 1, 12)
    given, found = mixed(lam), step(weighted("dafa"), mixed(lam))
    expected = torch.zeros(4, dtype=torch.float64).index_add(0, given.y, lam.double())
    torch.testing.assert_close(found["total.count"], expected)
    torch.testing.assert_close(found["total.robust_probability"].sum(1), expected, rtol=1e-5, atol=1e-5)


def test_statistics_can_leave_undecided_images_out():
    lam = torch.linspace(0.5, 1, 12)
    given, method, model = mixed(lam), weighted("dafa"), network()
    seen = toys.totals(method)
    seen.min_share = 0.75
    training_step(model, method, toys.sgd(model), given, context(), seen)
    kept = lam >= 0.75
    expected = torch.zeros(4, dtype=torch.float64).index_add(0, given.y[kept], lam[kept].double())
    torch.testing.assert_close(seen.stats().count, expected)


def test_hooks_see_one_label_and_the_share():
    found, seen = objective("trades"), []
    found.on_step_end = lambda given, terms, ctx: seen.append(given)
    step(found, mixed(0.6))
    assert type(seen[0].y) is torch.Tensor
    assert seen[0].lam is not None


@pytest.mark.parametrize("inner", ["base", "full"])
def test_weight_perturbation_goes_on_working(inner):
    def awp(gamma):
        return WeightPerturbation(gamma=gamma, start_epoch=1, inner=inner)

    given = mixed(0.6)
    assert_same(step(weighted("dafa"), given, awp=awp(0.0)), step(weighted("dafa"), given))
    assert_same(
        step(weighted("dafa"), mixed(1.0), awp=awp(0.05)), step(weighted("dafa"), batch(), awp=awp(0.05))
    )
    found = step(weighted("dafa"), given, awp=awp(0.05))
    assert not torch.equal(found["fc.weight"], step(weighted("dafa"), given)["fc.weight"])


@EVERY_METHOD
def test_a_mixed_step_never_waits_for_the_device(name):
    found, model = weighted(name), network()
    optimizer, totals, given = toys.sgd(model), toys.totals(found), mixed(0.6)

    def one_more(number):
        training_step(model, found, optimizer, given, context(1, number), totals)

    one_more(0)
    with Operations() as seen:
        one_more(1)
    assert seen.waiting == []
