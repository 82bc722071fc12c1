"""Steps that a method skips, and methods that wait for the device."""

import pytest
import torch
import toys
from exact import EPOCHS, EVERY_COMPONENT, Base, assert_exact, broken_laws, step, trained
from toy_training import Repeats, rows

from fairbench.api import LossTerms, Needs, losses, method
from fairbench.core.errors import ContractError
from fairbench.registry.components import WeightPerturbation
from fairbench.training.step import training_step


@method("hard")
class HardOnly(Base):
    """Trains on the images that are misclassified under attack, as HAM does; skips a step without any."""

    needs = Needs(waits="the hard images are selected", watched={"hard"})

    def perturb(self, model, batch, ctx):
        x_adv = super().perturb(model, batch, ctx)
        with torch.no_grad():
            hard = model(x_adv).argmax(1) != batch.y
        return {"x_adv": x_adv, "hard": hard & ((ctx.step + ctx.epoch) % 3 != 0)}

    def loss(self, model, batch, adversary, ctx):
        hard = adversary["hard"].nonzero().flatten()
        if len(hard) == 0:
            return LossTerms.skip()
        logits = model(adversary["x_adv"][hard])
        terms = logits.new_zeros(len(batch)).index_put((hard,), losses.cross_entropy(logits, batch.y[hard]))
        weight = adversary["hard"].to(terms.dtype)
        return LossTerms(
            robust=terms, weight={"robust": weight}, divide_by_weight=("robust",), watch={"hard": weight}
        )


@EVERY_COMPONENT
def test_a_method_that_waits_and_skips_steps_is_exact_without_graphs(tmp_path, components):
    found = assert_exact(tmp_path, HardOnly, components, captured=False)
    skipped = [row["skipped_steps"] for row in rows(tmp_path / "whole")]
    assert skipped == [2, 2, 3, 2]  # of steps 0 to 6: 2, 5; 1, 4; 0, 3, 6; 2, 5
    assert found.steps.fallback_reasons == []  # without graphs there is nothing to fall back from


def test_the_reason_for_waiting_is_told(tmp_path):
    found = trained(tmp_path, HardOnly, graphs=Repeats())
    assert found.steps.fallback_reasons == ["the method waits for the device: the hard images are selected"]
    with pytest.raises(ContractError, match="gives no reason"):
        Needs(waits=True)


@method("skips")
class Skips(Base):
    """Skips every step."""

    def loss(self, model, batch, x_adv, ctx):
        return LossTerms.skip()

    def on_step_end(self, batch, terms, ctx):
        assert terms.skipped


@pytest.mark.parametrize("awp", [None, WeightPerturbation(gamma=0.5, start_epoch=1)])
@pytest.mark.parametrize("given", [toys.batch(), toys.mixed(0.7)])
def test_a_skipped_step_moves_no_weight_and_counts_in_no_statistic(given, awp):
    _, totals, model = step(Skips, given, awp=awp)
    toys.assert_same(model.state_dict(), toys.network().state_dict())
    assert totals.stats().count.tolist() == [0] * 4
    assert (totals.skipped_steps(), totals.mean_loss(), totals.mean_terms()) == (1, 0, {})
    assert torch.isfinite(totals.sums["excess"])


def test_an_epoch_of_skipped_steps_has_not_diverged(tmp_path):
    found = trained(tmp_path, Skips)
    toys.assert_same(found.model.state_dict(), toys.network(4).state_dict())
    assert [(row["loss"], row["skipped_steps"]) for row in rows(tmp_path)] == [(0, 7)] * EPOCHS


def test_a_skipped_step_leaves_the_momentum_and_later_steps_are_those_without_it():
    @method("sometimes")
    class Sometimes(Base):
        def loss(self, model, batch, x_adv, ctx):
            return LossTerms.skip() if ctx.step == 1 else super().loss(model, batch, x_adv, ctx)

    found = []
    for steps in ((0, 1, 2), (0, 2)):
        objective, model = toys.configured(Sometimes), toys.network()
        optimizer, totals = toys.sgd(model), toys.totals(objective)
        for number in steps:
            training_step(model, objective, optimizer, toys.batch(), toys.context(1, number), totals)
        found.append(model.state_dict())
    toys.assert_same(*found)


def test_both_labels_skip_or_none():
    @method("half")
    class Half(Base):
        def loss(self, model, batch, x_adv, ctx):
            terms = super().loss(model, batch, x_adv, ctx)
            return LossTerms.skip() if torch.equal(batch.y, toys.batch().y) else terms

    with pytest.raises(ContractError, match="for one of the two labels"):
        step(Half, toys.mixed(0.7))


def test_weights_that_sum_to_zero_give_a_term_and_a_gradient_of_zero():
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    weight = {"robust": torch.zeros(2)}
    terms = LossTerms(robust=values, weight=weight, divide_by_weight=("robust",))
    for each in (terms, terms.mixed(terms, torch.tensor([0.7, 0.5]))):
        assert each.total().item() == 0
        assert torch.autograd.grad(each.total(), values)[0].tolist() == [0, 0]


def test_the_method_keeps_every_law():
    assert broken_laws(HardOnly) == {}
