"""FRL: bound how far the error of each class may exceed the average error.

Idea       At the start of each epoch, errors on held-out images update Lagrange multipliers. If the clean
           error or the boundary error (clean minus robust accuracy) of a class exceeds the mean by more than
           tau, the weight of the class in that term grows (reweight) and, for the boundary error, its radius
           (remargin). Fine-tunes a robust model.
Objective  sum_b w0[y_b] CE(f(x_b), y_b) / sum_b w0[y_b]
           + beta sum_b w1[y_b] KL(p(x_b) || p(x_adv_b)) / sum_b w1[y_b], |x_adv_b - x_b| <= k[y_b] eps
Source     Xu, Liu, Li, Jain, Tang, ICML 2021, arXiv 2010.06121; official program
           hannxu123/fair_robust@a80547d (April 2022), reweight + remargin; for reweight only it uses tau 0.1.
Deviates   Order of the train-mode forward passes in the program: clean, adversarial, clean
           (`bn_order="clean-adv-clean"`). Held-out images are drawn with the seed; in the program they are
           the last of each class (`hold_out` in the registry).
Cost       TRADES plus 20 attack steps on the held-out images per epoch.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from fairbench.api import (
    AdversarialObjective,
    Needs,
    attacks,
    losses,
    method,
    per_class,
    robust_validation,
    trades_terms,
)

BOUNDARY_PACE = 2  # rate of the boundary multiplier relative to the clean one (official program)
MARGIN_PACE = 2  # k = exp(2 phi_margin) (official program)
STEPS_TO_THE_EDGE = 4  # remargin: step = radius / 4 (official program), 2/255 for 8/255


@method("frl", tags=("trades", "reweighting", "margin", "fine-tuning"))
class Frl(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 1.5  # weight of the robust term, >= 0
        tau: float = 0.07  # tolerated excess over the mean error, >= 0; 1 with remargin=False: TRADES
        rate: float = 0.05  # step size of the loss multipliers, >= 0; 0: weights stay equal
        margin_rate: float = 0.2  # step size of the radius multiplier, >= 0; 0: radii stay equal
        limit: float = 0.5  # largest sum of the multipliers of a loss term, 0 <= limit < 1; 0: as rate 0
        halve_every_epochs: int = 40  # `rate` is halved every so many epochs, >= 1
        remargin: bool = True  # also scale radii
        margin_floor: float | None = None  # smallest radius multiplier, <= 0; None: no bound
        min_margin: float = 0.98  # smallest radius factor k, 0..1
        max_margin: float = 3.0  # largest radius factor k, >= 1
        step: Literal["batch-max", "per-sample"] = "batch-max"  # remargin: largest or own radius / 4
        validation_steps: int = 20  # attack steps on held-out images, >= 1
        bn_order: Literal["adv-clean", "clean-adv-clean"] = "adv-clean"  # order of train-mode forward passes

        def __post_init__(self):
            if min(self.beta, self.tau, self.rate, self.margin_rate) < 0:
                raise ValueError("beta, tau, rate and margin_rate have to be at least 0")
            if not 0 <= self.limit < 1:
                raise ValueError(f"limit={self.limit} is outside of 0 <= limit < 1: a weight could be 0")
            if min(self.halve_every_epochs, self.validation_steps) < 1:
                raise ValueError("halve_every_epochs and validation_steps have to be at least 1")
            if (self.margin_floor or 0) > 0 or not 0 <= self.min_margin <= 1 <= self.max_margin:
                raise ValueError("expected margin_floor <= 0 and 0 <= min_margin <= 1 <= max_margin")

    @dataclass
    class State:
        clean_multiplier: Tensor = per_class(0.0)  # (C,) phi_nat
        boundary_multiplier: Tensor = per_class(0.0)  # (C,) phi_bnd
        margin_multiplier: Tensor = per_class(0.0)  # (C,) phi_mar

    needs = Needs(validation="start")

    def margin(self):
        """Radius factor k of each class (C,)."""
        factor = (MARGIN_PACE * self.state.margin_multiplier).exp()
        return factor.clamp(self.config.min_margin, self.config.max_margin)

    def budget(self, y, ctx):
        if not self.config.remargin:
            return ctx.budget
        eps = self.margin()[y] * ctx.budget.eps
        step = eps / STEPS_TO_THE_EDGE
        if self.config.step == "batch-max":
            step = step.max().expand_as(step)
        return replace(ctx.budget, eps=eps, step_size=step)

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the KL, with the radius of each class."""
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        return trades_terms(
            model,
            batch,
            x_adv,
            beta=self.config.beta,
            bn_order=self.config.bn_order,
            weight={
                "clean": class_weight(self.state.clean_multiplier)[batch.y],
                "robust": class_weight(self.state.boundary_multiplier)[batch.y],
            },
            divide_by_weight=("clean", "robust"),
        )

    def validate(self, model, batch, ctx):
        """Clean predictions, and those under PGD on the cross-entropy with the radius of the protocol."""
        budget = replace(ctx.budget, num_steps=self.config.validation_steps)
        return robust_validation(model, batch, replace(ctx, budget=budget))

    def on_validation(self, stats, ctx):
        stats.check_every_class()
        config, state = self.config, self.state
        rate = config.rate * 0.5 ** (ctx.epoch // config.halve_every_epochs)
        clean = violation(1 - stats.clean_accuracy, stats.count, config.tau)
        boundary = violation(stats.clean_accuracy - stats.robust_accuracy, stats.count, config.tau)
        state.clean_multiplier = limited(state.clean_multiplier + rate * clean, config.limit)
        moved = state.boundary_multiplier + BOUNDARY_PACE * rate * boundary
        state.boundary_multiplier = limited(moved, config.limit)
        if config.remargin:
            floor = -torch.inf if config.margin_floor is None else config.margin_floor
            moved = state.margin_multiplier + config.margin_rate * boundary
            state.margin_multiplier = moved.clamp(min=floor)
            ctx.log("margin", self.margin())
        ctx.log("clean_weight", class_weight(state.clean_multiplier))
        ctx.log("boundary_weight", class_weight(state.boundary_multiplier))


def violation(error, count, tau):
    """Excess of each class error (C,) over the overall error plus `tau`."""
    return error - (count * error).sum() / count.sum() - tau


def limited(multiplier, limit):
    """`multiplier` (C,) clamped at 0 from below, and scaled down so that its sum is at most `limit`."""
    multiplier = multiplier.clamp(min=0)
    total = multiplier.sum()
    return torch.where(total > limit, multiplier * (limit / total), multiplier)


def class_weight(multiplier):
    """Class weights (C,) from multipliers: positive, with sum 1; 1/C each for equal multipliers."""
    return 1 / len(multiplier) + multiplier - multiplier.mean()
