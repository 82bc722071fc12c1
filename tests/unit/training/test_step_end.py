"""The hook after each step, with the state that it changes in place, the adversary and the learning rate."""

from dataclasses import dataclass

import pytest
import torch
import toys
from exact import EPOCHS, EVERY_COMPONENT, Base, assert_exact, broken_laws, step
from toy_training import rows

from fairbench.api import LossTerms, Needs, classes, method, per_class, per_example
from fairbench.registry.components import WeightPerturbation

# Class weights


@method("bandit")
class Bandit(Base):
    """Weights of classes that follow the errors of each step, as in CFOL."""

    @dataclass
    class State:
        weight: torch.Tensor = per_class(1.0)

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        weight = {"robust": self.state.weight[batch.y]}
        return LossTerms(**terms.terms, weight=weight, logits_adv=terms.logits_adv)

    def on_step_end(self, batch, terms, ctx):
        wrong = terms.logits_adv.argmax(1) != batch.y
        indicator = classes.class_indicator(batch.y, self.info.num_classes, torch.float64)
        self.state.weight += 0.01 * terms.terms["robust"].double() * wrong @ indicator


@EVERY_COMPONENT
def test_a_hook_that_changes_state_in_place_is_captured(tmp_path, components):
    found = assert_exact(tmp_path, Bandit, components)
    assert not found.objective.state.weight.requires_grad


def test_the_hook_sees_the_outputs_of_the_weights_before_they_are_perturbed():
    seen = []

    @method("observer")
    class Observer(Bandit):
        def on_step_end(self, batch, terms, ctx):
            seen.append(terms.logits_adv.argmax(1) != batch.y)

    for awp in (None, WeightPerturbation(gamma=0.5, start_epoch=1)):
        _, totals, _ = step(Observer, awp=awp)
        errors = torch.zeros(4, dtype=torch.float64).index_add(0, toys.batch().y, seen[-1].double())
        torch.testing.assert_close(errors, totals.sums["count"] - totals.sums["robust_correct"])
    assert torch.equal(*seen)


def test_the_steps_of_a_hook_are_those_of_its_own_epoch_after_a_replacement(tmp_path):
    """State that other hooks replace between epochs is captured where it is then."""

    @method("normalised")
    class Normalised(Bandit):
        def on_epoch_end(self, stats, ctx):
            self.state.weight = self.state.weight / self.state.weight.mean()

    assert_exact(tmp_path, Normalised, {})


# One value per training image


@method("margins")
class Margins(Base):
    """Keeps for each image how often it was met, and how far its last adversarial image was."""

    needs = Needs(validation="end")

    @dataclass
    class State:
        met: torch.Tensor = per_example(0.0)
        distance: torch.Tensor = per_example(-1.0)

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        weight = {"robust": 1 / (1 + self.state.met[batch.index])}
        return LossTerms(**terms.terms, weight=weight, logits_adv=terms.logits_adv)

    def on_step_end(self, batch, terms, ctx):
        distance = (ctx.adversary - batch.x).flatten(1).abs().amax(1)
        self.state.met[batch.index] += 1
        self.state.distance[batch.index] = distance.double()


@EVERY_COMPONENT
def test_values_of_images_survive_resumes_and_captured_steps(tmp_path, components):
    found = assert_exact(tmp_path, Margins, components)
    met, kept = found.objective.state.met, found.keep
    assert met.shape == kept.shape  # held-out images have their place among the others
    assert torch.equal(met, EPOCHS * kept.double())
    assert torch.equal(found.objective.state.distance >= 0, kept)
    assert found.objective.state.distance.max() == pytest.approx(0.1)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_there_is_one_value_for_each_training_image(num_classes):
    objective = toys.configured(Margins, num_classes=num_classes)
    assert objective.state.met.shape == (sum(objective.info.class_count),)


def test_the_adversary_is_for_the_hook_after_the_step_only():
    seen = []

    @method("named")
    class Named(Base):
        def perturb(self, model, batch, ctx):
            seen.append(ctx.adversary)
            return {"near": super().perturb(model, batch, ctx), "steps": batch.y}

        def loss(self, model, batch, adversary, ctx):
            seen.append(ctx.adversary)
            return super().loss(model, batch, adversary["near"], ctx)

        def on_step_end(self, batch, terms, ctx):
            assert torch.equal(ctx.adversary["steps"], batch.y)
            assert not ctx.adversary["near"].requires_grad

    step(Named)
    assert seen == [None, None]


# The learning rate


@method("follows")
class FollowsTheRate(Base):
    """Weighs its loss by the learning rate, and keeps the rates that its hooks see."""

    @dataclass
    class State:
        rate: torch.Tensor = per_class(0.0)
        sum: torch.Tensor = per_class(0.0)

    def budget(self, y, ctx):
        return ctx.budget.scale(torch.full_like(y, 20 * ctx.lr, dtype=torch.float32))

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        weight = {"robust": torch.full_like(terms.terms["robust"], 20 * ctx.lr)}
        return LossTerms(**terms.terms, weight=weight, logits_adv=terms.logits_adv)

    def on_epoch_start(self, ctx):
        self.state.rate = torch.full_like(self.state.rate, ctx.lr)

    def on_step_end(self, batch, terms, ctx):
        self.state.sum += ctx.lr

    def on_epoch_end(self, stats, ctx):
        ctx.log("rate", self.state.rate)
        assert torch.equal(self.state.rate, torch.full_like(self.state.rate, ctx.lr))


@EVERY_COMPONENT
def test_the_learning_rate_is_that_of_the_epoch_in_captured_steps_too(tmp_path, components):
    found = assert_exact(tmp_path, FollowsTheRate, components)
    rates = [0.05, 0.05, 0.05 * 0.1, 0.05 * 0.1]  # of the protocol
    assert [(row["lr"], row["logged"]["rate"]) for row in rows(tmp_path / "whole")] == [
        (rate, [rate] * 4) for rate in rates
    ]
    sums = torch.full((4,), 7 * sum(rates), dtype=torch.float64)
    torch.testing.assert_close(found.objective.state.sum, sums)


@pytest.mark.parametrize("cls", [Bandit, Margins, FollowsTheRate])
def test_the_methods_keep_every_law(cls):
    assert broken_laws(cls) == {}
