"""DAFA on PGD-AT, with the single and the double step, and TRIX's class weights from untargeted images."""

import pytest
import torch
import toys
from toys import BUDGET, batch, context, loss_of, network, objective, train, weigh

from fairbench.api import losses
from fairbench.training.step import training_step

NEVER = 1000
WEIGHT = (0.5, 2.0, 0.8, 1.2)


@pytest.mark.parametrize("options", [{"strength": 0.0, "warmup_epochs": 1}, {"warmup_epochs": NEVER}])
def test_dafa_pgd_with_weights_of_one_equals_pgd_at_bit_for_bit(options):
    toys.assert_same(train(objective("dafa-pgd", **options)), train(objective("pgd-at", start="gaussian")))


def test_dafa_pgd_learns_weights_from_the_outputs_of_its_loss():
    method = objective("dafa-pgd", warmup_epochs=1)
    found = train(method)
    assert not torch.equal(method.state.weight, torch.ones(4, dtype=torch.float64))
    plain = train(objective("pgd-at", start="gaussian"))
    assert not torch.equal(found["fc.weight"], plain["fc.weight"])


def test_dafa_pgd_weighs_the_adversarial_cross_entropy():
    given, model = batch(), network()
    method, unweighted = (weigh(objective("dafa-pgd", scale_loss=on), *WEIGHT) for on in (True, False))
    terms, plain = (loss_of(each, model, given, given.x) for each in (method, unweighted))
    value = losses.cross_entropy(model(given.x), given.y)
    weight = torch.tensor(WEIGHT)[given.y]
    torch.testing.assert_close(terms.total(), (weight * value).mean())
    torch.testing.assert_close(plain.total(), value.mean())


def attacked(base, given, model):
    """(distance from the image, declared radius): (B,) each."""
    method = weigh(objective("dafa", base=base), *WEIGHT)
    budget = method.budget(given.y, context())
    x_adv = toys.adversary(method, model, given, context(budget=budget))
    return (x_adv - given.x).abs().flatten(1).amax(1), torch.as_tensor(budget.eps).expand(len(given)).float()


def test_the_double_step_nearly_undoes_the_margins_of_the_classes():
    given, model = batch(), network()
    weight = torch.tensor(WEIGHT)[given.y]
    single, radius = attacked("pgd-at", given, model)
    torch.testing.assert_close(radius, weight * BUDGET.eps)
    torch.testing.assert_close(single, radius)  # all balls are reached
    double, declared = attacked("pgd-at-double-step", given, model)
    assert (declared == BUDGET.eps).all()
    assert (double <= BUDGET.eps + 1e-6).all()
    torch.testing.assert_close(double, (radius + BUDGET.step_size).clamp(max=BUDGET.eps))


# TRIX's class weights from untargeted adversaries


def test_untargeted_statistics_of_an_untargeted_trix_are_the_same_bit_for_bit():
    options = {"mix_start_epoch": NEVER, "warmup_epochs": 1}
    found = [objective("trix", w_stats=kind, **options) for kind in ("mixed", "untargeted")]
    toys.assert_same(*map(train, found))
    assert torch.equal(found[0].state.weight, found[1].state.weight)
    assert not torch.equal(found[0].state.weight, torch.ones(4, dtype=torch.float64))


def measured(method, epoch=1):
    """The table of robust probabilities after one step, and the model."""
    model, totals = network(), toys.totals(method)
    training_step(model, method, toys.sgd(model), batch(), context(epoch), totals, check=True)
    return totals.stats().robust_probability, model.state_dict()


def test_untargeted_statistics_are_those_that_dafa_would_measure_and_change_no_training():
    mixed, trained = measured(objective("trix", warmup_epochs=1))
    untargeted, same = measured(objective("trix", warmup_epochs=1, w_stats="untargeted"))
    dafa, _ = measured(objective("dafa", warmup_epochs=1))
    toys.assert_same(trained, same)  # BatchNorm's statistics too
    assert torch.equal(untargeted, dafa)
    assert not torch.equal(untargeted, mixed)
    outside = [
        measured(objective("trix", warmup_epochs=1, w_stats=kind), 2)[0] for kind in ("mixed", "untargeted")
    ]
    assert torch.equal(*outside)  # after the warm-up nothing is measured any more
