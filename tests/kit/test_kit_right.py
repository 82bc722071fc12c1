"""Methods that are right keep the laws, also where they look like the wrong ones."""

import copy
import math
from dataclasses import dataclass, replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from fairbench.api import (
    AdversarialObjective,
    LossTerms,
    Needs,
    attacks,
    classes,
    losses,
    method,
    per_class,
    per_example,
)
from fairbench.testing import LAWS, Subject, Trial

RIGHT = {}


def right(cls):
    """Class decorator: this method has to keep the laws."""
    RIGHT[cls.__name__] = method("right")(cls)
    return RIGHT[cls.__name__]


class Plain(AdversarialObjective):
    """PGD-AT with a weight per class."""

    @dataclass
    class State:
        weight: Tensor = per_class(1.0)

    def perturb(self, model, batch, ctx):
        return self.attacked(model, batch, ctx, ctx.budget)

    def attacked(self, model, batch, ctx, budget, **options):
        def aim(logits):
            return losses.cross_entropy(logits, batch.y)

        rng = ctx.rng("attack")
        return attacks.pgd(model, batch.x, aim, budget=budget, start="uniform", rng=rng, **options)

    def loss(self, model, batch, x_adv, ctx):
        logits = model(x_adv)
        weight = {"robust": self.state.weight[batch.y]}
        return LossTerms(robust=losses.cross_entropy(logits, batch.y), weight=weight, logits_adv=logits)


@right
class SingleStep(Plain):
    """FGSM from a uniform start with a step of 1.25 radii, whatever the protocol's steps are."""

    def perturb(self, model, batch, ctx):
        budget = replace(ctx.budget, step_size=1.25 * ctx.budget.eps, num_steps=1)
        return self.attacked(model, batch, ctx, budget)


@right
class StepsOfItsOwn(Plain):
    """The number and size of steps are options."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        steps: int = 7
        step_size: float = 0.01

    def perturb(self, model, batch, ctx):
        budget = replace(ctx.budget, step_size=self.config.step_size, num_steps=self.config.steps)
        return self.attacked(model, batch, ctx, budget)


@right
class StopsEarly(Plain):
    """FAT: an image that is misclassified moves no further."""

    def perturb(self, model, batch, ctx):
        def still_right(k, x, logits):
            return logits.argmax(1) == batch.y

        return self.attacked(model, batch, ctx, ctx.budget, observe=still_right)


@right
class HalfIsClean(Plain):
    """Every other image stays clean."""

    def perturb(self, model, batch, ctx):
        x_adv = super().perturb(model, batch, ctx)
        attacked = torch.arange(len(x_adv), device=x_adv.device) % 2 == 0
        return torch.where(attacked.view(-1, 1, 1, 1), x_adv, batch.x)


@right
class SmallerRadiusOnPurpose(Plain):
    """The radius grows with the epochs and differs between classes, as budget() declares."""

    needs = Needs(epoch_stats={"robust_accuracy"})

    def budget(self, y, ctx):
        return ctx.budget.scale(self.state.weight[y] * ctx.epoch / ctx.num_epochs)

    def on_epoch_end(self, stats, ctx):
        self.state.weight = 0.5 + stats.of_every_class("robust_accuracy") / 2


@right
class TwoAttacks(Plain):
    """Two adversaries by name, and a value per sample."""

    def perturb(self, model, batch, ctx):
        far = self.attacked(model, batch, ctx, ctx.budget)
        return {
            "far": far,
            "near": batch.x + 0.5 * (far - batch.x),
            "norm": (far - batch.x).flatten(1).norm(dim=1),
        }

    def loss(self, model, batch, adversary, ctx):
        terms = super().loss(model, batch, adversary["far"], ctx)
        near = losses.cross_entropy(model(adversary["near"]), batch.y) * (1 + adversary["norm"])
        return LossTerms(**terms.terms, near=near, weight=terms.weight, logits_adv=terms.logits_adv)


@right
class AttacksACopy(Plain):
    """The images come from a copy with slightly other weights."""

    def perturb(self, model, batch, ctx):
        other = copy.deepcopy(model)
        with torch.no_grad():
            for weight in other.parameters():
                weight.mul_(0.99)
        return super().perturb(other, batch, ctx)


@right
class SmoothedLabels(Plain):
    """Label smoothing over the classes that there are, and an entropy between 0 and 1."""

    def loss(self, model, batch, x_adv, ctx):
        logits, count = model(x_adv), self.info.num_classes
        logs = logits.log_softmax(1)
        smooth = 0.9 * losses.cross_entropy(logits, batch.y) - 0.1 * logs.sum(1) / count
        certain = 1 + (logs.exp() * logs).sum(1) / math.log(count)
        return LossTerms(robust=smooth, certain=certain, logits_adv=logits)


@right
class WeightsWithMeanOne(Plain):
    """Weights of class statistics with the mean 1, and weights of samples with the mean 1 in each batch."""

    needs = Needs(epoch_stats={"robust_accuracy"})

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        hard = terms.terms["robust"].detach().sigmoid()
        terms.weight["robust"] = terms.weight["robust"] * hard / hard.mean()
        return terms

    def on_epoch_end(self, stats, ctx):
        risk = (1 - stats.of_every_class("robust_accuracy")).exp()
        self.state.weight = self.info.num_classes * risk / risk.sum()


@right
class DistributionOverClasses(Plain):
    """Group DRO: weights with the mean 1 over classes, which change in place after each step."""

    def on_step_end(self, batch, terms, ctx):
        wrong = (terms.logits_adv.argmax(1) != batch.y).double()
        self.state.weight *= (0.1 * classes.class_means(wrong, batch.y, self.info.num_classes)).exp()
        self.state.weight /= self.state.weight.mean()


@right
class KeepsTheOldValue(Plain):
    """The NaN of a class without images is not used."""

    needs = Needs(epoch_stats={"robust_accuracy"}, watched={"loss"})

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        terms.watch = {"loss": terms.terms["robust"].detach()}
        return terms

    def on_epoch_end(self, stats, ctx):
        new = 1.5 - stats.robust_accuracy + stats.watched["loss"].clamp(max=1)
        self.state.weight = torch.where(new.isnan(), self.state.weight, new)


@right
class Regularised(Plain):
    """A scalar term that is no mean of samples: a risk over the batch, and the size of the logits."""

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        tail = torch.logsumexp(terms.terms["robust"], 0) - math.log(len(batch.y))
        return LossTerms(**terms.terms, tail=0.1 * tail, weight=terms.weight, logits_adv=terms.logits_adv)


@right
class ValuePerImage(Plain):
    """A moving average of the loss of each training image."""

    @dataclass
    class State:
        weight: Tensor = per_class(1.0)
        past: Tensor = per_example(1.0)

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        terms.weight["robust"] = self.state.past[batch.index].clamp(0.5, 2)
        return terms

    def on_step_end(self, batch, terms, ctx):
        self.state.past[batch.index] = (
            0.9 * self.state.past[batch.index] + 0.1 * terms.terms["robust"].double()
        )


@right
class AbsentClassAsAnOptionSays(Plain):
    """A class that was absent in an epoch keeps its weight, or gets a neutral one."""

    needs = Needs(epoch_stats={"robust_accuracy"})

    @dataclass(frozen=True, kw_only=True)
    class Config:
        strength: float = 1.0
        absent: Literal["neutral", "keep"] = "neutral"

    def on_epoch_end(self, stats, ctx):
        accuracy = stats.robust_accuracy
        weight = 1 + self.config.strength * (accuracy.nanmean() - accuracy).clamp(min=0)
        other = self.state.weight if self.config.absent == "keep" else torch.ones_like(weight)
        self.state.weight = torch.where(accuracy.isnan(), other, weight)


@right
class DrawsClassesByAllAccuracies(Plain):
    """The shares of the classes follow from accuracies that every class has to have."""

    needs = Needs(epoch_stats={"robust_accuracy"}, sampling="classes")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        strength: float = 1.0

    def on_epoch_end(self, stats, ctx):
        accuracy = stats.of_every_class("robust_accuracy")
        self.state.weight = 1 + self.config.strength * (accuracy.mean() - accuracy).clamp(min=0)

    def class_share(self, ctx):
        return self.state.weight


@right
class SkipsWithoutHardImages(Plain):
    """A step without images of low confidence is skipped."""

    needs = Needs(waits="whether an image is hard decides whether there is a step")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        margin: float = 0.5

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        probability = terms.logits_adv.detach().softmax(1).gather(1, batch.y[:, None])[:, 0]
        return terms if (probability < self.config.margin).any() else LossTerms.skip()


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_method_keeps_the_laws(name):
    trial = Trial(Subject(name, RIGHT[name]), LAWS)
    outcomes = {law: trial.outcome(law) for law in LAWS if law != "cost"}
    broken = {law: each.remark for law, each in outcomes.items() if each.state == "FAILED"}
    assert broken == {}
