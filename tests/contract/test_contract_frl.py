"""FRL: multipliers from held-out errors, class weights and radii from multipliers."""

import math
from dataclasses import replace

import fairbench_methods.frl
import pytest
import torch
import toys
from toys import BUDGET, batch, context, network, objective, one_step

from fairbench.api import Budget, LossTerms, ValidationStats, losses
from fairbench.attacks.frozen import frozen
from fairbench.core.errors import ConfigError, EmptyClassError
from fairbench.testing.training import Training

limited = fairbench_methods.frl.limited
class_weight = fairbench_methods.frl.class_weight

STEPPED = Budget(eps=0.1, step_size=0.025, num_steps=5)  # FRL's own step: a quarter of the radius


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def stats(clean_error, boundary_error, count=(10, 10, 10, 10)):
    clean = 1 - numbers(*clean_error)
    return ValidationStats(numbers(*count), clean, clean - numbers(*boundary_error), {}, 16)


def state(frl):
    return [getattr(frl.state, f"{kind}_multiplier").tolist() for kind in ("clean", "boundary", "margin")]


EXAMPLE = stats((0.10, 0.20, 0.40, 0.10), (0.30, 0.30, 0.45, 0.25))
FINE = stats((0.2, 0.2, 0.2, 0.2), (0.3, 0.3, 0.3, 0.3))


# Multipliers


def test_one_update_of_the_worked_example():
    frl, logged = objective("frl"), {}
    frl.on_validation(EXAMPLE, context(logged=logged))
    clean, boundary, margin = state(frl)
    assert clean == pytest.approx([0, 0, 0.0065, 0])
    assert boundary == pytest.approx([0, 0, 0.0055, 0])
    assert margin == pytest.approx([-0.019, -0.019, 0.011, -0.029])
    assert logged["clean_weight"].tolist() == pytest.approx([0.248375, 0.248375, 0.254875, 0.248375])
    assert logged["boundary_weight"].tolist() == pytest.approx([0.248625, 0.248625, 0.254125, 0.248625])
    assert logged["margin"].tolist() == pytest.approx([0.98, 0.98, 1.0222438, 0.98])


def test_reweight_alone_updates_no_radius():
    frl = objective("frl-rw", tau=0.07)
    frl.on_validation(EXAMPLE, context())
    assert state(frl)[1] == pytest.approx([0, 0, 0.0055, 0])
    assert state(frl)[2] == [0, 0, 0, 0]
    assert frl.budget(batch().y, context()) is BUDGET


def test_the_overall_error_is_that_of_the_images_not_of_the_classes():
    frl = objective("frl", tau=0.0)
    frl.on_validation(stats((0.1, 0.1, 0.1, 0.5), (0, 0, 0, 0), count=(10, 10, 10, 30)), context())
    assert state(frl)[0] == pytest.approx([0, 0, 0, 0.05 * (0.5 - 0.3)])


def test_only_violating_classes_gain_weight_and_all_others_lose_equally():
    frl = objective("frl")
    frl.on_validation(EXAMPLE, context())
    for multiplier in (frl.state.clean_multiplier, frl.state.boundary_multiplier):
        gain = class_weight(multiplier) - 0.25
        assert (gain > 0).tolist() == [False, False, True, False]
        assert gain[[0, 1, 3]].unique().numel() == 1


def test_a_satisfied_model_returns_to_equal_weights():
    frl = objective("frl")
    frl.state.clean_multiplier = numbers(0.1, 0, 0.2, 0)
    frl.state.boundary_multiplier = numbers(0, 0.01, 0, 0)
    for _ in range(60):
        frl.on_validation(FINE, context())
    assert state(frl)[:2] == [[0, 0, 0, 0]] * 2


def test_negative_boundary_errors_are_allowed():
    frl = objective("frl")
    frl.on_validation(stats((0.5, 0.5, 0.5, 0.5), (-0.1, 0.1, 0.3, 0.1)), context())
    assert all(torch.isfinite(value).all() for value in frl.state_dict().values())
    assert state(frl)[1] == pytest.approx([0, 0, 0.1 * (0.3 - 0.1 - 0.07), 0])


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_all_right_or_all_wrong_is_finite(right):
    frl, every = objective("frl"), torch.full((4,), right, dtype=torch.float64)
    frl.on_validation(ValidationStats(numbers(5, 5, 5, 5), every, every, {}, 8), context())
    assert torch.isfinite(one_step(frl, network()))
    assert class_weight(frl.state.clean_multiplier).tolist() == [0.25] * 4


@pytest.mark.parametrize(("epoch", "rate"), [(1, 0.05), (39, 0.05), (40, 0.025), (79, 0.025), (120, 0.00625)])
def test_the_rate_is_halved_before_every_fortieth_epoch(epoch, rate):
    frl = objective("frl")
    frl.on_validation(EXAMPLE, context(epoch))
    assert state(frl)[0] == pytest.approx([0, 0, rate * 0.13, 0])
    assert state(frl)[2] == pytest.approx([-0.019, -0.019, 0.011, -0.029])  # r2 stays


def test_credit_of_a_fine_class_delays_its_radius_unless_a_floor_forgets_it():
    late = stats((0.2, 0.2, 0.2, 0.2), (0.3, 0.3, 0.9, 0.3))
    found = {}
    for floor in (None, 0.0):
        frl = objective("frl", margin_floor=floor)
        for epoch in range(1, 31):
            frl.on_validation(FINE, context(epoch))
        assert frl.margin().tolist() == [0.98 if floor is None else 1.0] * 4
        frl.on_validation(late, context())
        found[floor] = frl.margin()[2].item()
    assert found[None] == 0.98
    assert found[0.0] == pytest.approx(math.exp(2 * 0.2 * (0.9 - 0.45 - 0.07)))


def test_renamed_classes_have_renamed_multipliers():
    permutation = torch.tensor([2, 0, 3, 1])
    given = stats((0.1, 0.2, 0.4, 0.1), (0.3, 0.3, 0.45, 0.25), count=(10, 20, 5, 7))
    renamed = replace(
        given,
        count=given.count[permutation],
        clean_accuracy=given.clean_accuracy[permutation],
        robust_accuracy=given.robust_accuracy[permutation],
    )
    first, second = objective("frl"), objective("frl")
    first.on_validation(given, context())
    second.on_validation(renamed, context())
    for name, value in first.state_dict().items():
        torch.testing.assert_close(second.state_dict()[name], value[permutation], rtol=0, atol=1e-15)


def test_a_class_without_held_out_images_is_an_error_that_names_it():
    with pytest.raises(EmptyClassError, match="no image of class 2 is held out"):
        objective("frl").on_validation(stats([0.1] * 4, [0.1] * 4, count=(5, 5, 0, 5)), context())


def test_adaptation_precedes_training_in_the_first_epoch():
    training = Training(objective("frl"), awkward=True).run(until=(1, 0))
    assert training.losses == []
    assert training.method.state.clean_multiplier.max() > 0


# N and the class weights


def test_limiting_the_worked_example():
    assert limited(numbers(0.6, 0.3, -0.2, 0.1), 0.5).tolist() == pytest.approx([0.3, 0.15, 0, 0.05])


@pytest.mark.parametrize("limit", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("seed", range(5))
def test_limiting_twice_is_limiting_once_and_keeps_sign_and_sum(seed, limit):
    given = torch.randn(7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    once = limited(given, limit)
    torch.testing.assert_close(limited(once, limit), once, rtol=1e-14, atol=0)
    assert (once >= 0).all()
    assert once.sum() <= limit + 1e-15
    small = given.clamp(min=0) * 1e-3 * limit
    assert torch.equal(limited(small, limit), small)


def test_weights_of_the_worked_example():
    assert class_weight(numbers(0.3, 0.1, 0, 0)).tolist() == pytest.approx([0.45, 0.25, 0.15, 0.15])


@pytest.mark.parametrize("seed", range(5))
def test_weights_sum_to_one_and_keep_a_minimum(seed):
    draws = torch.Generator().manual_seed(seed)
    weight = class_weight(limited(10 * torch.rand(8, generator=draws, dtype=torch.float64), 0.9))
    assert weight.sum() == pytest.approx(1)
    assert weight.min() >= (1 - 0.9) / 8


# Loss


def with_multipliers(frl):
    frl.state.clean_multiplier = numbers(0.3, 0, 0.1, 0)
    frl.state.boundary_multiplier = numbers(0, 0.2, 0, 0)
    return frl


@pytest.mark.parametrize("options", [{"margin_rate": 0.0}, {"remargin": False}])
@pytest.mark.parametrize("neutral", [{"rate": 0.0}, {"limit": 0.0}, {"tau": 1.0}])
def test_without_multipliers_a_step_is_that_of_trades(neutral, options):
    found = []
    for method in (objective("frl", **options, **neutral), objective("trades", beta=1.5)):
        model = network().double()
        given = replace(batch(), x=batch().x.double())
        if method.resolved_needs().validation:
            method.on_validation(EXAMPLE, context())
        found.append({"loss": one_step(method, model, given, context(budget=STEPPED)), **model.state_dict()})
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-12, atol=1e-14, msg=name)


def test_the_loss_is_divided_by_the_weights_of_the_batch():
    frl, model, given = with_multipliers(objective("frl")), network().double(), batch()
    given = replace(given, x=given.x.double())
    terms = toys.loss_of(frl, model, given, given.x.flip(0))
    w0, w1 = numbers(0.45, 0.15, 0.25, 0.15)[given.y], numbers(0.2, 0.4, 0.2, 0.2)[given.y]
    clean, adversarial = model(given.x), model(given.x.flip(0))
    expected = (w0 * losses.cross_entropy(clean, given.y)).sum() / w0.sum()
    expected = expected + 1.5 * (w1 * losses.kl(clean, adversarial)).sum() / w1.sum()
    torch.testing.assert_close(terms.total(), expected, rtol=1e-12, atol=0)
    tripled = LossTerms(
        **terms.terms,
        weight={name: 3 * value for name, value in terms.weight.items()},
        divide_by_weight=terms.divide_by_weight,
    )
    torch.testing.assert_close(tripled.total(), terms.total(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("labels", [torch.full((6,), 2), torch.tensor([1])])
def test_a_batch_of_one_class_has_the_plain_mean(labels):
    frl, given, model = with_multipliers(objective("frl")), batch(labels=labels), network()
    terms = toys.loss_of(frl, model, given, given.x)
    torch.testing.assert_close(terms.total(), terms.base())


@pytest.mark.parametrize("labels", [torch.tensor([0, 1, 1, 3, 3, 3]), torch.full((6,), 2), torch.tensor([1])])
def test_a_step_with_multipliers_is_finite_on_odd_batches(labels):
    frl, model = with_multipliers(objective("frl")), network()
    frl.state.margin_multiplier = numbers(-5, 5, 0, 0.1)
    assert torch.isfinite(one_step(frl, model, batch(labels=labels)))
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


# Radii


def widened(**options):
    frl = objective("frl", **options)
    frl.state.margin_multiplier = numbers(-0.5, 0.0, 0.2, 5.0)
    return frl, numbers(0.98, 1.0, 1.4918246976412703, 3.0)


@pytest.mark.parametrize("step", ["batch-max", "per-sample"])
def test_radii_follow_the_multipliers_and_the_step_is_a_quarter_of_them(step):
    frl, factor = widened(step=step)
    y = torch.tensor([0, 1, 2, 2])  # the widest class is absent
    budget = frl.budget(y, context())
    torch.testing.assert_close(budget.eps, 0.1 * factor[y])
    expected = budget.eps / 4 if step == "per-sample" else torch.full_like(budget.eps, 0.1 * factor[2] / 4)
    torch.testing.assert_close(budget.step_size, expected)
    assert budget.num_steps == BUDGET.num_steps


def test_the_adversary_uses_the_whole_radius_of_its_class_and_no_more():
    frl, factor = widened()
    given = replace(batch(), x=0.2 + 0.6 * batch().x)  # so that [0, 1] cuts few of them
    ctx = context(budget=STEPPED)
    ctx = replace(ctx, budget=frl.budget(given.y, ctx))
    with frozen(model := network()):
        x_adv = frl.perturb(model, given, ctx)
    distance = (x_adv - given.x).abs().flatten(1).amax(1).double()
    torch.testing.assert_close(distance, 0.1 * factor[given.y], rtol=0, atol=1e-6)


# Validation


def test_held_out_images_are_attacked_in_the_protocols_radius_by_steps_of_the_protocols_size():
    frl, _ = widened()
    given, model, seen = batch(), network(), []
    with frozen(model), torch.no_grad():
        model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
        terms = frl.validate(model, given, context())
        assert torch.equal(terms.logits, model(given.x))
    iterates, clean, x_adv = seen[:20], seen[20], seen[21]
    assert torch.equal(clean, given.x)
    assert terms.terms == {}
    assert (x_adv - given.x).abs().max() <= 0.1 + 1e-6
    assert (iterates[1] - iterates[0]).abs().max() <= 0.04 + 1e-6
    assert all(image.min() >= 0 and image.max() <= 1 for image in iterates)  # the start is clipped too


def test_a_resumed_run_moves_its_multipliers_on():
    whole, resumed = objective("frl"), objective("frl")
    whole.on_validation(EXAMPLE, context(39))
    resumed.load_state_dict(toys.copied(whole.state_dict()))
    for frl in (whole, resumed):
        frl.on_validation(EXAMPLE, context(40))
    toys.assert_same(whole.state_dict(), resumed.state_dict())


# Options


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"limit": 1.0}, "limit=1.0 is outside of 0 <= limit < 1"),
        ({"limit": -0.1}, "limit=-0.1 is outside"),
        ({"beta": -1.0}, "at least 0"),
        ({"tau": -0.1}, "at least 0"),
        ({"rate": -0.1}, "at least 0"),
        ({"margin_rate": -0.1}, "at least 0"),
        ({"halve_every_epochs": 0}, "at least 1"),
        ({"validation_steps": 0}, "at least 1"),
        ({"margin_floor": 0.1}, "margin_floor <= 0"),
        ({"min_margin": 1.1}, "min_margin <= 1"),
        ({"max_margin": 0.9}, "1 <= max_margin"),
        ({"min_margin": -0.1}, "0 <= min_margin"),
    ],
)
def test_options_out_of_range_are_refused(options, match):
    with pytest.raises(ConfigError, match=match):
        objective("frl", **options)
