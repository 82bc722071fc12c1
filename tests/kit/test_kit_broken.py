"""A method that breaks one law is caught by that law, by no other, and told what to do."""

import copy
import itertools
import math
import os
import random
import time
from dataclasses import dataclass, replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from fairbench.api import (
    AdversarialObjective,
    Draws,
    LossTerms,
    Needs,
    attacks,
    classes,
    losses,
    method,
    per_class,
    trades_terms,
)
from fairbench.core.errors import EmptyClassError
from fairbench.testing import LAWS, Subject, Trial


@method("sound")
class Sound(AdversarialObjective):
    """Keeps every law; each class below breaks one."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0
        strength: float = 1.0

    @dataclass
    class State:
        weight: Tensor = per_class(1.0)

    needs = Needs(epoch_stats={"robust_accuracy"}, validation="end")

    def perturb(self, model, batch, ctx):
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        weight = {"clean": self.state.weight[batch.y]}
        return trades_terms(model, batch, x_adv, beta=self.config.beta, bn_order="adv-clean", weight=weight)

    def on_epoch_end(self, stats, ctx):
        accuracy = stats.of_every_class("robust_accuracy")
        self.state.weight = 1 + self.config.strength * (accuracy.mean() - accuracy).clamp(min=0)


def fixed_draws():
    return Draws(0, torch.device("cpu"))


def global_noise(size):
    return torch.rand(size, device="cpu")


BROKEN = {}


def breaks(law, says, *advice):
    """Class decorator: this method breaks `law`; the message contains `says`, the hint all of `advice`.

    The first of each law breaks no other; the rest may break several.
    """

    def noted(cls):
        named = method("broken")(cls)
        alone = law not in {broken for broken, *_ in BROKEN.values()}
        BROKEN[f"{law}: {cls.__name__}"] = (law, says, advice, alone, named)
        return named

    return noted


def verdicts(cls, laws=LAWS, **given):
    trial = Trial(Subject(name=cls.name, cls=cls, **given), LAWS)
    return {name: trial.outcome(name) for name in laws}


def test_a_sound_method_keeps_every_law():
    found = verdicts(Sound)
    assert {name: outcome.remark for name, outcome in found.items() if outcome.state != "ok"} == {}


# One law each


@breaks("terms", "'odd' has shape (4,)", "(12,)")
class WrongShape(Sound):
    def loss(self, model, batch, x_adv, ctx):
        return LossTerms(odd=model(batch.x).sum(0), logits=model(batch.x), logits_adv=model(x_adv))


@breaks("terms", "TypeError: unsupported operand", "test_kit_broken.py", "x_adv + None")
class Raises(Sound):
    def loss(self, model, batch, x_adv, ctx):
        return x_adv + None


@breaks("terms", "not finite", "losses.kl")
class InfiniteGradient(Sound):
    def loss(self, model, batch, x_adv, ctx):
        logits = model(batch.x)
        return LossTerms(
            root=(logits - logits.detach()).abs().sum(1).sqrt(), logits=logits, logits_adv=logits
        )


@breaks("training", "KeyError: 'cleen'", 'stats.terms["cleen"]')
class BrokenHook(Sound):
    def on_validation(self, stats, ctx):
        stats.terms["cleen"]


@breaks("training", "the state becomes NaN: weight", "absent class")
class NanState(Sound):
    def on_epoch_end(self, stats, ctx):
        if ctx.epoch == ctx.num_epochs:
            self.state.weight = self.state.weight / 0 - self.state.weight / 0


@breaks("training", "ctx.teacher('teacher'): the method has no such teacher", 'Needs(teachers={"teacher"})')
class UndeclaredTeacher(Sound):
    def loss(self, model, batch, x_adv, ctx):
        target = losses.kl(ctx.teacher("teacher")(batch.x), model(x_adv))
        return LossTerms(robust=target, **dict.fromkeys(("logits", "logits_adv"), model(batch.x)))


@breaks("budget", "left the budget", "ctx.budget")
class TooFar(Sound):
    def perturb(self, model, batch, ctx):
        return ((batch.x - 0.5).sign() * -0.2 + batch.x).clamp(0, 1)


@breaks("budget", "leaves [0, 1]")
class OutsideOfTheImage(Sound):
    def perturb(self, model, batch, ctx):
        return batch.x - 0.09


@breaks("budget", "left the budget")
class TooFarLater(Sound):
    def perturb(self, model, batch, ctx):
        wide = ctx.budget.scale(self.state.weight[batch.y])
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=wide, start="gaussian", rng=ctx.rng("attack"))


@breaks("attack", "the loss falls from", "maximises its loss")
class TheWrongSign(Sound):
    def perturb(self, model, batch, ctx):
        def aim(logits):
            return -losses.cross_entropy(logits, batch.y)

        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="uniform", rng=ctx.rng("attack"))


@breaks("shown", "returns as logits the outputs for x_adv", "LossTerms(..., logits=logits)")
class Swapped(Sound):
    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        terms.logits, terms.logits_adv = terms.logits_adv, terms.logits
        return terms


@breaks("absent-class", "NaN of a class without images", "of_every_class")
class NanAsZero(Sound):
    def on_epoch_end(self, stats, ctx):
        accuracy = stats.robust_accuracy.nan_to_num(0)
        self.state.weight = 1 + self.config.strength * (accuracy.mean() - accuracy).clamp(min=0)


@breaks("draws", "two draws have the same purpose", 'ctx.rng("noise")')
class OneNoiseForTwoThings(Sound):
    def perturb(self, model, batch, ctx):
        noise = ctx.rng("attack").normal(batch.x)
        x_adv = super().perturb(model, batch, ctx)
        return torch.where(noise > 2, batch.x, x_adv)


@breaks("draws", "a class is drawn among 10 classes, but there are 12: test_kit_broken.py:", "num_classes")
class TenClasses(Sound):
    def perturb(self, model, batch, ctx):
        target = ctx.rng("target").other_class(batch.y, 10)

        def aim(logits):
            return -losses.cross_entropy(logits, target % logits.shape[1])

        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="uniform", rng=ctx.rng("attack"))


@breaks("renaming", "the renamed ones", "do not use class numbers")
class FavoursTheTenth(Sound):
    def loss(self, model, batch, x_adv, ctx):
        weight = {"clean": (1 + (batch.y == 9)) * self.state.weight[batch.y]}
        return trades_terms(model, batch, x_adv, beta=self.config.beta, bn_order="adv-clean", weight=weight)


@breaks("source", "generator of its own: test_kit_broken.py:", "ctx.rng")
class SeedsInAHook(Sound):
    def on_epoch_start(self, ctx):
        torch.manual_seed(0)


@breaks("source", "on_epoch_end() draws from the global generator of torch", "ctx.rng")
class GlobalDrawsInAHelper(Sound):
    def on_epoch_end(self, stats, ctx):
        super().on_epoch_end(stats, ctx)
        global_noise(3)


@breaks("source", "reads the environment: test_kit_broken.py:", "Config")
class ReadsTheEnvironment(Sound):
    def on_epoch_start(self, ctx):
        os.environ.get("STRENGTH")


@breaks("source", "reads or writes a file: test_kit_broken.py:", "Config")
class ReadsAFile(Sound):
    def on_epoch_start(self, ctx):
        if ctx.epoch > 100:
            torch.load("table.pt")


@breaks("source", "reads the clock: test_kit_broken.py:", "ctx.epoch")
class ReadsTheClock(Sound):
    def on_epoch_start(self, ctx):
        time.perf_counter()


@breaks(
    "samples", "the term 'clean' as one number, the mean over the samples", "without .mean()", "outside_base"
)
class MeanOfSamples(Sound):
    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        clean = (terms.weight.pop("clean") * terms.terms["clean"]).mean()
        terms.terms["clean"] = clean
        return terms


@breaks("samples", "the term 'clean' as one number, the sum over the samples", "without .sum()")
class SumOfSamples(Sound):
    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        terms.terms["clean"] = terms.terms["clean"].sum()
        terms.weight = {}
        return terms


@breaks("samples", "halves the weight of 'clean' when each image is in the batch twice", "divide_by_weight")
class WeightsWithSumOne(Sound):
    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        terms.weight["clean"] = terms.weight["clean"] / terms.weight["clean"].sum()
        return terms


@breaks("shown", "returns probabilities as logits_adv", "before any softmax")
class Probabilities(Sound):
    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        terms.logits_adv = terms.logits_adv.softmax(1)
        return terms


@breaks("shown", "loss() shows the network pixels from", "normalises them itself")
class NormalisesPixels(Sound):
    def loss(self, model, batch, x_adv, ctx):
        return super().loss(model, replace(batch, x=(batch.x - 0.5) / 0.25), (x_adv - 0.5) / 0.25, ctx)


@breaks("shown", "loss() attacks", "attack in perturb()")
class AttacksInLoss(Sound):
    def loss(self, model, batch, x_adv, ctx):
        return super().loss(model, batch, self.perturb(model, batch, ctx), ctx)


@breaks("batchnorm", "perturb() runs a network in train mode: test_kit_broken.py:", "no copy in train mode")
class CopyInTrainMode(Sound):
    def perturb(self, model, batch, ctx):
        return super().perturb(copy.deepcopy(model).train(), batch, ctx)


@breaks("attack", "uses only 0.50 of the radius", "override budget()")
class HalfOfTheRadius(Sound):
    def perturb(self, model, batch, ctx):
        half = ctx.budget.scale(torch.full_like(batch.y, 0.5, dtype=torch.float64))
        return super().perturb(model, batch, replace(ctx, budget=half))


@breaks("attack", "the first step follows rounding", "gaussian")
class NoGradientAtTheStart(Sound):
    def perturb(self, model, batch, ctx):
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="none", rng=ctx.rng("attack"))


@breaks("budget", "0.0314 > 0.0020", "budget=ctx.budget")
class RadiusOfItsOwn(Sound):
    def perturb(self, model, batch, ctx):
        own = replace(ctx.budget, eps=8 / 255, step_size=2 / 255)
        return super().perturb(model, batch, replace(ctx, budget=own))


@breaks("resume", "in the middle of epoch 1 and resumed", "self.sums is not saved")
class SumsInEpochOne(Sound):
    def on_epoch_start(self, ctx):
        if ctx.epoch == 1:
            self.sums = torch.zeros_like(self.state.weight)

    def on_step_end(self, batch, terms, ctx):
        if ctx.epoch == 1 and hasattr(self, "sums"):
            self.sums += 1

    def on_epoch_end(self, stats, ctx):
        if ctx.epoch == 1 and hasattr(self, "sums"):
            self.state.weight = 1 + self.sums


@breaks("resume", "ends with other values in self.history", "State")
class GrowingList(Sound):
    def on_step_end(self, batch, terms, ctx):
        self.__dict__.setdefault("history", []).append(ctx.step)


@breaks("training", "stats.clean_accuracy is read", "epoch_stats")
class ReadsWithoutNaming(Sound):
    def on_epoch_end(self, stats, ctx):
        self.state.weight = 1 + stats.clean_accuracy


@breaks("terms", "needs clean_accuracy, but loss() returned no logits", "logits=logits")
class NoLogits(Sound):
    needs = Needs(epoch_stats={"clean_accuracy"})

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        terms.logits = None
        return terms


@breaks("purity", "loss() changed the state: weight", "on_... hooks only")
class StateInLoss(Sound):
    def loss(self, model, batch, x_adv, ctx):
        self.state.weight = self.state.weight * 1.01
        return super().loss(model, batch, x_adv, ctx)


@breaks("purity", "class_share() changed the state: weight", "on_... hooks only")
class ImpureShare(Sound):
    needs = Needs(epoch_stats={"robust_accuracy"}, validation="end", sampling="classes")

    def class_share(self, ctx):
        self.state.weight = self.state.weight * 1.01
        return self.state.weight


@breaks("purity", "perturb() stored self.mask", "adversary dict")
class Memo(Sound):
    def perturb(self, model, batch, ctx):
        self.mask = batch.y > 0
        return super().perturb(model, batch, ctx)


@breaks("purity", "validate() changed batch.x in place", "x = x + d")
class InPlace(Sound):
    def validate(self, model, batch, ctx):
        terms = super().validate(model, batch, ctx)
        batch.x.mul_(0.999)
        return terms


@breaks("purity", "global generator of torch", "ctx.rng")
class GlobalNoise(Sound):
    def perturb(self, model, batch, ctx):
        x_adv = super().perturb(model, batch, ctx)
        return (x_adv + 0 * torch.randn_like(x_adv)).clamp(0, 1)


@breaks("purity", "global generator of random", "ctx.rng")
class PythonNoise(Sound):
    def loss(self, model, batch, x_adv, ctx):
        random.random()
        return super().loss(model, batch, x_adv, ctx)


@breaks("purity", "loss() left gradients on", "torch.autograd.grad")
class Backward(Sound):
    needs = Needs(epoch_stats={"robust_accuracy"})

    def loss(self, model, batch, x_adv, ctx):
        losses.cross_entropy(model(batch.x), batch.y).mean().backward()
        return super().loss(model, batch, x_adv, ctx)


@breaks("purity", "loss() changed the weights conv1.weight", "optimiser")
class WeightDecay(Sound):
    def loss(self, model, batch, x_adv, ctx):
        with torch.no_grad():
            model.conv1.weight.mul_(0.99)
        return super().loss(model, batch, x_adv, ctx)


@breaks("purity", "validate() changed the state: weight")
class StateInValidate(Sound):
    def validate(self, model, batch, ctx):
        self.state.weight = self.state.weight * 1.01
        return super().validate(model, batch, ctx)


CALLS = itertools.count()


@breaks("purity", "perturb() returns something else when it is called again: x_adv", "self.state")
class CountsCalls(Sound):
    def perturb(self, model, batch, ctx):
        return batch.x if next(CALLS) % 2 else super().perturb(model, batch, ctx)


STORED = []


@breaks("purity", "perturb() changed STORED of test_kit_broken.py", "on_... hooks only")
class StoresInTheModule(Sound):
    def perturb(self, model, batch, ctx):
        STORED.append(batch.y)
        return super().perturb(model, batch, ctx)


@breaks("batchnorm", "perturb() changed BatchNorm's statistics", 'attack_bn="train"')
class TrainMode(Sound):
    def perturb(self, model, batch, ctx):
        model.train()
        return super().perturb(model, batch, ctx)


@breaks("batchnorm", "did not change BatchNorm's statistics", "remove attack_bn")
class DeclaredForNothing(Sound):
    needs = Needs(epoch_stats={"robust_accuracy"}, attack_bn="train")

    def perturb(self, model, batch, ctx):
        model.eval()
        return super().perturb(model, batch, ctx)


@breaks("batchnorm", "loss() left the model in eval mode", "do not change the mode of the model")
class EvalMode(Sound):
    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        model.eval()
        return terms


@breaks("seeds", "another seed changes nothing", "fixed seed")
class FixedSeed(Sound):
    def perturb(self, model, batch, ctx):
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=fixed_draws())


RUNS = []


@breaks("seeds", "another result the second time", "globals")
class CountsRuns(Sound):
    def on_epoch_end(self, stats, ctx):
        RUNS.append(1)
        self.state.weight = torch.full_like(self.state.weight, float(len(RUNS)))


@breaks("resume", "resumed gives another result", "self.seen is not saved", "State")
class HiddenCounter(Sound):
    seen = 0

    def on_step_end(self, batch, terms, ctx):
        self.seen += 1

    def loss(self, model, batch, x_adv, ctx):
        beta = self.config.beta * (1 + self.seen)
        return trades_terms(model, batch, x_adv, beta=beta, bn_order="adv-clean")


@breaks("resume", "cannot be resumed", "self.table is not saved", "State")
class HiddenTable(Sound):
    def on_epoch_start(self, ctx):
        if ctx.epoch == 1:
            self.table = torch.ones_like(self.state.weight)

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        return terms if not hasattr(self, "table") and ctx.epoch == 1 else self.scaled(terms, batch)

    def scaled(self, terms, batch):
        terms.weight["clean"] = terms.weight["clean"] * self.table[batch.y]
        return terms


@breaks("odd-batches", "when a class is absent, the loss is not finite", "clamp(min=1)")
class DividesByCounts(Sound):
    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        indicator = classes.class_indicator(batch.y, self.info.num_classes, batch.x.dtype)
        worst = (terms.terms["clean"] @ indicator / indicator.sum(0)).amax()
        return LossTerms(
            logits=terms.logits, logits_adv=terms.logits_adv, weight=terms.weight, **terms.terms, worst=worst
        )


@breaks("odd-batches", "a step raises EmptyClassError", "on_epoch_end")
class RefusesBatches(Sound):
    def on_step_end(self, batch, terms, ctx):
        if len(batch.y.unique()) == 1:
            raise EmptyClassError("only one class.")


@breaks("two-labels", "training differs: loss", "do not use batch.y2")
class MixesByItself(Sound):
    def perturb(self, model, batch, ctx):
        if batch.y2 is None:
            return super().perturb(model, batch, ctx)
        return batch.x


@breaks("two-labels", "images that depend on the labels", "one_label=True")
class ImagesByLabel(Sound):
    def loss(self, model, batch, x_adv, ctx):
        shade = (1 / self.state.weight[batch.y]).to(batch.x.dtype)  # hard classes are shown darker
        return super().loss(model, replace(batch, x=batch.x * shade.view(-1, 1, 1, 1)), x_adv, ctx)


@breaks("renaming", "the renamed ones", "do not use class numbers")
class FavoursTheFirst(Sound):
    def loss(self, model, batch, x_adv, ctx):
        weight = {"clean": (1 + (batch.y == 0)) * self.state.weight[batch.y]}
        return trades_terms(model, batch, x_adv, beta=self.config.beta, bn_order="adv-clean", weight=weight)


@breaks("waiting", "_local_scalar_dense (test_kit_broken.py:", "torch.where")
class AsksForAValue(Sound):
    def loss(self, model, batch, x_adv, ctx):
        batch.x.mean().item()
        return super().loss(model, batch, x_adv, ctx)


@breaks("waiting", "index (test_kit_broken.py:", "x[mask]")
class BooleanMask(Sound):
    def perturb(self, model, batch, ctx):
        batch.x[batch.y > 1].sum()
        return super().perturb(model, batch, ctx)


@breaks("per-class", "with 50", "replace the loop over classes")
class LoopsOverClasses(Sound):
    def loss(self, model, batch, x_adv, ctx):
        for label in range(self.info.num_classes):
            (batch.y == label).sum()
        return super().loss(model, batch, x_adv, ctx)


@breaks("device", "made without a device: test_kit_broken.py:", "device=batch.y.device")
class OnTheCpu(Sound):
    def perturb(self, model, batch, ctx):
        torch.arange(self.info.num_classes)
        return super().perturb(model, batch, ctx)


@breaks("device", "made without a device: test_kit_broken.py", "device=")
class OnTheCpuInAHook(Sound):
    def on_epoch_end(self, stats, ctx):
        self.state.weight = torch.ones(self.info.num_classes, dtype=torch.float64)
        self.state.weight = self.state.weight + self.config.strength * stats.robust_accuracy.nan_to_num()


@breaks("device", "on another device than the CPU", "never move one to the CPU")
class ExplicitCpu(Sound):
    def loss(self, model, batch, x_adv, ctx):
        torch.zeros(3, device="cpu")
        return super().loss(model, batch, x_adv, ctx)


@breaks("device", "(test_kit_broken.py", "never move")
class MovesToTheCpu(Sound):
    def loss(self, model, batch, x_adv, ctx):
        return super().loss(model, batch, x_adv.cpu(), ctx)


@breaks("device", "x_adv in another precision", "batch.x.dtype")
class SinglePrecision(Sound):
    def perturb(self, model, batch, ctx):
        return super().perturb(model, batch, ctx).float()


@breaks("options", "strength has no effect (0.5, 2.0", "option_context")
class IdleNumber(Sound):
    def on_epoch_end(self, stats, ctx):
        pass


@breaks("options", "rule='other' gives the same as 'paper'", "remove the option")
class IdleWord(Sound):
    @dataclass(frozen=True, kw_only=True)
    class Config(Sound.Config):
        rule: Literal["paper", "other"] = "paper"


@breaks("options", "kind: no other value can be derived from list[int]")
class UnknownKind(Sound):
    @dataclass(frozen=True, kw_only=True)
    class Config(Sound.Config):
        kind: list[int] = None


@breaks("cost", "times as long as one of TRADES", "attack")
class Slow(Sound):
    def perturb(self, model, batch, ctx):
        if ctx.budget.num_steps == 10:  # only where the clock runs: the other laws have no time for it
            for _ in range(80):
                super().perturb(model, batch, ctx)
        return super().perturb(model, batch, ctx)


@breaks("budget", "left the budget", "budget=ctx.budget")
class WideLater(Sound):
    def perturb(self, model, batch, ctx):
        budget = ctx.budget if ctx.epoch < 2 else replace(ctx.budget, eps=2 * ctx.budget.eps)
        rng = ctx.rng("attack")
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=budget, start="uniform", rng=rng)


@breaks("waiting", "test_kit_broken.py", "stay in tensors")
class AsksLater(Sound):
    def loss(self, model, batch, x_adv, ctx):
        if ctx.epoch > 2:
            batch.y.sum().item()
        return super().loss(model, batch, x_adv, ctx)


@breaks("purity", "changed", "on_")
class StateInLossLater(Sound):
    def loss(self, model, batch, x_adv, ctx):
        if ctx.epoch > 1:
            self.state.weight = self.state.weight + 1
        return super().loss(model, batch, x_adv, ctx)


@breaks("seeds", "another result the second time", "ctx.rng")
class GlobalDrawsInAHook(Sound):
    def on_epoch_start(self, ctx):
        self.state.weight = self.state.weight + torch.rand(self.state.weight.shape, device="cpu")


@breaks("terms", "the weight of 'clean' has shape", "weight[batch.y]")
class ColumnOfWeights(Sound):
    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        return LossTerms(weight={"clean": self.state.weight[batch.y][:, None]}, **terms.terms)


@breaks("terms", "SystemExit", "")
class Leaves(Sound):
    def loss(self, model, batch, x_adv, ctx):
        raise SystemExit(0)


# What holds for the toy images, the toy budget or ten classes only


@breaks("class-count", "if all classes are equal, State.weight does not depend", ".mean()")
class MeanOfTen(Sound):
    def on_epoch_end(self, stats, ctx):
        accuracy = stats.of_every_class("robust_accuracy")
        self.state.weight = 1 + self.config.strength * (accuracy.sum() / 10 - accuracy).clamp(min=0)


@breaks("class-count", "the mean of State.weight over the classes is 1 with 10", "self.info.num_classes")
class SumIsTen(Sound):
    def on_epoch_end(self, stats, ctx):
        risk = (self.config.strength * (1 - stats.of_every_class("robust_accuracy"))).exp()
        self.state.weight = 10 * risk / risk.sum()


@breaks("class-count", "the term 'clean' is 2.303 with 10 classes and 2.939 with 16", "num_classes")
class TenthOfEachClass(Sound):
    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        smooth = -(terms.logits_adv.log_softmax(1) / 10).sum(1)
        terms.terms["clean"] = 0.9 * terms.terms["clean"] + 0.1 * smooth
        return terms


@breaks("class-count", "the term 'certainty' is ", "math.log(self.info.num_classes)")
class EntropyOfTen(Sound):
    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        logits = model(batch.x)
        entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
        terms.terms["certainty"] = 1 - entropy / math.log(10)
        return terms


@breaks("attack", "computes 10 gradients, whatever ctx.budget.num_steps is", "an option in Config")
class TenSteps(Sound):
    def perturb(self, model, batch, ctx):
        own = replace(ctx.budget, num_steps=10)
        return super().perturb(model, batch, replace(ctx, budget=own))


@breaks("attack", "computes only 5 gradients where ctx.budget.num_steps is 10", "budget=ctx.budget")
class HalfOfTheSteps(Sound):
    def perturb(self, model, batch, ctx):
        own = replace(ctx.budget, num_steps=(ctx.budget.num_steps + 1) // 2)
        return super().perturb(model, batch, replace(ctx, budget=own))


@breaks("attack", "moves images by 0.0078 in a step, whatever ctx.budget is", "an option in Config")
class StepOfItsOwn(Sound):
    def perturb(self, model, batch, ctx):
        own = replace(ctx.budget, step_size=2 / 255)
        return super().perturb(model, batch, replace(ctx, budget=own))


@breaks("attack", "uses only 0.80 of the radius", "override budget()")
class FourFifthsOfTheRadius(Sound):
    def perturb(self, model, batch, ctx):
        x_adv = super().perturb(model, batch, ctx)
        return batch.x + 0.8 * (x_adv - batch.x)


@breaks("attack", "of the radius", "override budget()")
class DeclaresMoreThanItUses(Sound):
    def budget(self, y, ctx):
        return ctx.budget.scale(self.state.weight[y].clamp(1, 1.5))

    def perturb(self, model, batch, ctx):
        least = torch.as_tensor(ctx.budget.eps).amin().expand(len(batch.y))
        return super().perturb(model, batch, replace(ctx, budget=replace(ctx.budget, eps=least)))


@breaks("odd-batches", "with images of 3x10x14 instead of 3x8x8, a step fails", "batch.x.shape")
class ImagesOfOneSize(Sound):
    def loss(self, model, batch, x_adv, ctx):
        return super().loss(model, batch, x_adv.reshape(-1, 3, 8, 8), ctx)


@breaks("odd-batches", "keeps the graph of its gradient: weight", "value.detach()")
class StateWithGradient(Sound):
    def on_step_end(self, batch, terms, ctx):
        with torch.enable_grad():
            self.state.weight = self.state.weight * terms.terms["clean"].mean() / 10


@breaks("two-labels", "training differs: state.weight", "1 - batch.lam")
class CountsTheSecondLabel(Sound):
    def on_step_end(self, batch, terms, ctx):
        y = batch.y if batch.y2 is None else batch.y2
        self.state.weight += 0.01 * classes.class_counts(y, self.info.num_classes)


@breaks("purity", "on_epoch_end() changed stats.robust_accuracy in place", "a = a - b")
class StatisticsInPlace(Sound):
    def on_epoch_end(self, stats, ctx):
        accuracy = stats.of_every_class("robust_accuracy")
        accuracy -= accuracy.mean()
        self.state.weight = 1 + self.config.strength * (-accuracy).clamp(min=0)


@breaks("purity", "on_step_end() changed batch.x in place", "a = a - b")
class BatchInPlaceInAHook(Sound):
    def on_step_end(self, batch, terms, ctx):
        batch.x.clamp_(0.1, 0.9)


@breaks("purity", "perturb() changed the network: bn1.momentum", "layers")
class ChangesLayers(Sound):
    def perturb(self, model, batch, ctx):
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 0.0
        return super().perturb(model, batch, ctx)


@breaks("absent-class", "NaN of a class without images for 0", "of_every_class")
class NanOfValidationTerms(Sound):
    def on_epoch_end(self, stats, ctx):
        pass

    def on_validation(self, stats, ctx):
        self.state.weight = 1 + self.config.strength * stats.terms["clean"].nan_to_num(0)


@breaks("absent-class", "NaN of a class without images for 0", "of_every_class")
class NanOfWatchedValues(Sound):
    needs = Needs(watched={"right"})

    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        terms.watch = {"right": terms.logits_adv.argmax(1) == batch.y}
        return terms

    def on_epoch_end(self, stats, ctx):
        self.state.weight = 1 + self.config.strength * stats.watched["right"].nan_to_num(0)


@breaks("samples", "the term 'clean' as one number, the mean over the samples", "without .mean()")
class OneNumberForAllSamples(Sound):
    def loss(self, model, batch, x_adv, ctx):
        terms = super().loss(model, batch, x_adv, ctx)
        clean = (terms.weight.pop("clean") * terms.terms["clean"]).mean()
        terms.terms["clean"] = clean.expand(len(batch.y))
        return terms


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_law_is_caught_with_advice_and_by_that_law_alone(case):
    law, says, advice, alone, cls = BROKEN[case]
    slow = {"options", "cost"} - {law}  # each says the same of all of these
    found = verdicts(cls, [name for name in LAWS if name not in slow] if alone else [law])
    assert [name for name, outcome in found.items() if outcome.state == "FAILED"] == [law]
    assert says in found[law].remark
    for words in advice:
        assert words in found[law].hint
    waiting = [outcome.remark for outcome in found.values() if outcome.state == "skipped"]
    assert all("not tested, because" in remark for remark in waiting)
    if alone:
        assert len(waiting) == sum(
            law in others.requires for others in LAWS.values() if others.name not in slow
        )


def test_an_option_of_free_text_is_not_held_against_its_method():
    class Labelled(Sound):
        @dataclass(frozen=True, kw_only=True)
        class Config(Sound.Config):
            label: str = "mine"

    found = verdicts(method("labelled")(Labelled), ["options"])["options"]
    assert (found.state, found.remark) == ("ok", "label not tried: free text")


def test_every_law_has_a_method_that_breaks_it():
    assert {law for law, *_ in BROKEN.values()} == set(LAWS)


# What keeps the laws and is slow on a GPU


class ReadsTheStep(Sound):
    def perturb(self, model, batch, ctx):
        return super().perturb(model, batch, replace(ctx, budget=ctx.budget) if ctx.step >= 0 else ctx)


class ReplacesState(Sound):
    def on_step_end(self, batch, terms, ctx):
        self.state.weight = self.state.weight * 1.0


class ChangesStateInPlace(Sound):
    def on_step_end(self, batch, terms, ctx):
        self.state.weight *= 1.0


class WaitsAsDeclared(Sound):
    needs = Needs(epoch_stats={"robust_accuracy"}, waits="an image is looked at")

    def loss(self, model, batch, x_adv, ctx):
        batch.x.mean().item()
        return super().loss(model, batch, x_adv, ctx)


@pytest.mark.parametrize("law", ["waiting", "device", "per-class"])
def test_a_method_may_wait_if_it_says_why(law):
    outcome = verdicts(method("waits")(WaitsAsDeclared), [law])[law]
    assert outcome.state == "ok"
    assert law != "waiting" or outcome.remark == "waits for the device, as declared: an image is looked at"


@pytest.mark.parametrize(
    ("cls", "says"),
    [
        (Sound, ""),
        (ChangesStateInPlace, ""),
        (ReadsTheStep, "the method reads ctx.step"),
        (ReplacesState, "on_step_end replaces state.weight"),
    ],
)
def test_the_author_hears_that_steps_cannot_be_recorded(cls, says):
    outcome = verdicts(method("slow")(cls), ["waiting"])["waiting"]
    assert outcome.state == "ok"
    assert says in outcome.remark
    assert bool(outcome.remark) == bool(says)
