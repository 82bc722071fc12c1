"""WAT: expert weights from summed held-out costs."""

from dataclasses import replace

import pytest
import torch
import toys
from toys import batch, context, network, objective, one_step

from fairbench.api import ValidationStats
from fairbench.core.errors import ConfigError, EmptyClassError
from fairbench.testing.training import Training
from fairbench.training.validation import measure


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def stats(*cost, count=None, batch_size=16):
    """Held-out statistics with these class means of the summed terms, a quarter of them clean."""
    cost = numbers(*cost)
    count = torch.full_like(cost, 10) if count is None else numbers(*count)
    unknown = torch.full_like(cost, torch.nan)
    return ValidationStats(count, unknown, unknown, {"clean": 0.25 * cost, "robust": 0.75 * cost}, batch_size)


def updated(*epochs, **options):
    wat = objective("wat", len(epochs[0]), **options)
    for epoch, cost in enumerate(epochs, 1):
        wat.on_validation(stats(*cost), context(epoch))
    return wat


def experts(wat):
    return [*wat.state.weight.tolist(), wat.state.mean_weight]


# The first epoch


def test_the_first_epoch_has_twice_the_loss_of_trades_bit_for_bit():
    twice, once = (one_step(objective(name), network()) for name in ("wat", "trades"))
    assert torch.equal(twice, 2 * once)


def test_the_first_epoch_with_mean_weights_is_trades_bit_for_bit():
    found = []
    for method in (objective("wat", normalise="mean"), objective("trades")):
        training = Training(method, epochs=1).run(until=(1, "end"))
        found.append({"losses": torch.stack(training.losses), **training.model.state_dict()})
    toys.assert_same(*found)


# Weights


def test_two_updates_of_the_worked_example():
    first = updated((2.0, 3.0, 4.0))
    assert experts(first) == pytest.approx([0.67693432, 0.74812812, 0.82680944, 0.74812812], abs=1e-8)
    second = updated((2.0, 3.0, 4.0), (1.5, 2.5, 3.5))
    assert experts(second) == pytest.approx([0.60794829, 0.74254972, 0.90695227, 0.74254972], abs=1e-8)


@pytest.mark.parametrize("eta", [0.0, 0.1, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_weights_are_positive_sum_to_the_classes_and_follow_the_costs(seed, eta):
    draws = torch.Generator().manual_seed(seed)
    costs = 3 * torch.rand(4, 6, generator=draws, dtype=torch.float64)
    wat = updated(*costs.tolist(), eta=eta)
    weight = wat.state.weight
    assert sum(experts(wat)) == pytest.approx(6)
    assert min(experts(wat)) > 0
    assert torch.equal(wat.state.cost, costs[0] + costs[1] + costs[2] + costs[3])
    if eta > 0:
        assert torch.equal(weight.argsort(), wat.state.cost.argsort())
    assert weight.min() <= wat.state.mean_weight <= weight.max()


def test_a_constant_on_all_costs_changes_no_weight():
    low, high = updated((2.0, 3.0, 4.0)), updated((7.0, 8.0, 9.0))
    assert experts(low) == pytest.approx(experts(high))


def test_equal_costs_give_each_expert_the_same():
    assert experts(updated((2.5, 2.5, 2.5))) == pytest.approx([0.75] * 4)


def test_huge_costs_stay_finite_and_end_on_one_class():
    wat = updated((1e5, 2e5, 9e5, 8e5))
    assert experts(wat) == pytest.approx([0, 0, 4, 0, 0])
    assert torch.isfinite(one_step(wat, network()))


def test_eta_zero_is_trades_times_a_constant():
    found, given = [], replace(batch(), x=batch().x.double())
    for method in (updated((1.0, 2.0, 3.0, 4.0), eta=0.0), objective("trades")):
        model = network().double()
        found.append((one_step(method, model, given), model.fc.weight.grad))
    (loss, gradient), (trades, other) = found
    torch.testing.assert_close(loss, 2 * 4 / 5 * trades, rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, 2 * 4 / 5 * other, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_mean_weights_keep_the_scale_of_trades(eta):
    wat, plain = (updated((1.0, 2.0, 3.0, 4.0), eta=eta, normalise=n) for n in ("mean", "sum"))
    assert wat.class_weight().mean().item() == pytest.approx(1)
    scaled = plain.class_weight() / plain.class_weight().mean()
    torch.testing.assert_close(wat.class_weight(), scaled, rtol=1e-12, atol=0)


def test_the_same_weights_scale_both_terms_and_a_batch_is_divided_by_its_size():
    wat = updated((1.0, 2.0, 3.0, 9.0), eta=0.5)
    given, model = batch(labels=torch.tensor([0, 1, 1, 3, 3, 3])), network()
    terms = toys.loss_of(wat, model, given, given.x.flip(0))
    weight = (wat.state.weight + wat.state.mean_weight)[given.y]
    expected = (weight * (terms.terms["clean"] + terms.terms["robust"])).sum() / 6
    torch.testing.assert_close(terms.total().double(), expected, rtol=1e-5, atol=0)


# Costs


def test_the_mean_expert_costs_the_mean_over_images():
    wat = objective("wat", 3)
    wat.on_validation(stats(1.0, 2.0, 6.0, count=(10, 10, 20)), context())
    assert wat.state.mean_cost == pytest.approx((10 + 20 + 120) / 40)
    balanced = updated((1.0, 2.0, 6.0))
    assert balanced.state.mean_cost == pytest.approx(3.0)


def test_the_programs_costs_count_full_batches_and_equal_classes():
    wat = objective("wat", 3, cost_norm="program")
    wat.on_validation(stats(1.0, 2.0, 6.0, count=(10, 10, 20), batch_size=16), context())
    assert wat.state.cost.tolist() == pytest.approx([3 * 10 / 48, 3 * 20 / 48, 3 * 120 / 48])
    assert wat.state.mean_cost == pytest.approx(150 / 48)
    whole, default = objective("wat", 3, cost_norm="program"), objective("wat", 3)
    for method in (whole, default):
        method.on_validation(stats(1.0, 2.0, 6.0, count=(16, 16, 16), batch_size=16), context())
    torch.testing.assert_close(whole.state.cost, default.state.cost)
    assert whole.state.mean_cost == pytest.approx(default.state.mean_cost)


def held_out(wat, model):
    batches = [(batch(seed=seed), context(step=seed)) for seed in (0, 1)]
    return measure(model, wat.validate, batches, num_classes=4, batch_size=12)


def test_costs_are_measured_without_weights_by_the_training_attack():
    model, measured = network(), []
    for weight in ((1, 1, 1, 1), (0, 3, 0.5, 0.5)):
        measured.append(held_out(toys.weigh(objective("wat"), *weight), model).terms)
    toys.assert_same(*measured)
    assert measured[0].keys() == {"clean", "robust"}
    toys.assert_same(measured[0], held_out(objective("trades"), model).terms)


def test_validation_leaves_the_model_alone():
    model = network()
    before = toys.copied(model.state_dict())
    wat = objective("wat")
    wat.on_validation(held_out(wat, model), context())
    toys.assert_same(model.state_dict(), before)
    assert model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_a_class_without_held_out_images_is_an_error_that_names_it():
    with pytest.raises(EmptyClassError, match="no image of class 0 is held out"):
        objective("wat", 3).on_validation(stats(1.0, 2.0, 3.0, count=(0, 5, 5)), context())


def test_weights_change_after_an_epoch_not_before_it():
    training = Training(objective("wat"), awkward=True).run(until=(1, "end"))
    assert experts(training.method) == [1, 1, 1, 1, 1]
    training.run(until=(2, "start"))
    assert sum(experts(training.method)) == pytest.approx(4)


def test_a_resumed_run_has_the_very_same_costs_and_weights():
    whole, resumed = updated((1 / 3, 2 / 7, 3 / 11)), objective("wat", 3)
    resumed.load_state_dict(toys.copied(whole.state_dict()))
    assert experts(resumed) == experts(whole)
    for wat in (whole, resumed):
        wat.on_validation(stats(0.1, 0.2, 0.3), context(2))
    toys.assert_same(whole.state_dict(), resumed.state_dict())
    assert experts(resumed) == experts(whole)


@pytest.mark.parametrize("options", [{"beta": -1.0}, {"eta": -0.1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match="at least 0"):
        objective("wat", **options)
