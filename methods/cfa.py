"""CFA: a radius and a weight of the robust term for each class, from its robust accuracy.

Idea       After each epoch the training robust accuracy t_c of a class sets its radius (CCM) and the
           weight of its KL term (CCR) for the next one; weak classes get smaller values. The third
           part, model weights averaged over the epochs that are fair enough (FAWA), is the component
           `averaging`. Bases: TRADES, PGD-AT, or FAT, whose attack stops soon after it succeeds.
Objective  mean_b (1 - b[y_b]) CE(f(x_b), y_b) + b[y_b] KL(p(x_b) || p(x_adv_b)), b_c = beta_c / (1 + beta_c),
           beta_c = (lambda2 + t_c) beta, |x_adv_b - x_b| <= (lambda1 + t_c) eps, c = y_b; bases other
           than TRADES: mean_b CE(f(x_adv_b), y_b)
Source     Wei, Y. Wang, Guo, Y. Wang, CVPR 2023, arXiv 2303.14460; official program PKU-ML/CFA@071f333.
           lambda1 is 0.3 for TRADES, 0.5 for PGD-AT, 0.7 for FAT. FAT's stopping rule is that of the program.
Deviates   The paper calibrates from the first update on, the program after ten epochs (default here). t_c is
           the accuracy of the class; in the program the number of correct samples divided by N / C
           (`accuracy="program"`). BatchNorm is in eval mode during the attack; in the program for PGD-AT and
           FAT in train mode (`attack_bn="train"`). The second clean forward passes of the program, in the
           loss and for its log, are left out (`bn_order`, `log_forwards`). When no sample moves any more, the
           program leaves the loop of FAT and fairbench does not; this changes BatchNorm's statistics in train
           mode.
Cost       As the base.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from fairbench.api import (
    AdversarialObjective,
    LossTerms,
    Needs,
    attacks,
    classes,
    convex_weights,
    losses,
    method,
    per_class,
    trades_terms,
)


@method("cfa", tags=("trades", "margin", "reweighting"))
class Cfa(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        base: Literal["trades", "pgd-at", "fat"] = "trades"  # "fat": friendly adversarial training
        margin_base: float = 0.3  # lambda1, >= 0; the radius is (lambda1 + t_c) eps
        factor_base: float = 0.5  # lambda2, >= 0; the KL has weight (lambda2 + t_c) beta; TRADES base only
        scale_margin: bool = True  # class-wise radius (CCM)
        scale_factor: bool = True  # class-wise weight of the KL (CCR); TRADES base only
        begin_epoch: int = 11  # the first calibrated epoch; 1: calibrate after the first epoch
        beta: float = 6.0  # weight of the robust term, >= 0; TRADES base only
        normalise: bool = True  # divide each sample's loss by 1 + beta_c; false: CE + beta_c KL
        max_margin: float | None = None  # largest radius in units of eps, > 0; None: lambda1 + 1
        accuracy: Literal["per-class", "program"] = "per-class"  # divisor of t_c: N_c, or N / C
        tau: int = 3  # steps of FAT after a misclassification, >= 1; num_steps or more: PGD-AT
        bn_order: Literal["adv-clean", "clean-adv-clean"] = "adv-clean"  # forward passes; TRADES base only
        attack_bn: Literal["eval", "train"] = "eval"  # mode of BatchNorm during the attack
        log_forwards: bool = False  # a clean train-mode forward pass after each step, as in the program

        def __post_init__(self):
            for name in ("margin_base", "factor_base", "beta"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name} is negative")
            if self.max_margin is not None and self.max_margin <= 0:
                raise ValueError("max_margin is not positive")
            if self.tau < 1:
                raise ValueError("tau is below 1")

    @dataclass
    class State:
        margin: Tensor = per_class(1.0)  # (C,) radius in units of eps
        factor: Tensor = per_class(1.0)  # (C,) beta_c / beta

    @staticmethod
    def needs(config):
        return Needs(attack_bn=config.attack_bn, clean_forward_after_step=config.log_forwards)

    def budget(self, y, ctx):
        return ctx.budget.scale(self.state.margin[y], step=False)

    def perturb(self, model, batch, ctx):
        """The attack of the base with the radius of each class; the step size is the same for every class."""
        if self.config.base == "trades":
            aim, start = losses.kl_to_clean(model, batch.x), "gaussian"
        else:
            aim, start = partial(losses.cross_entropy, label=batch.y), "uniform"
        stop = friendly(batch.y, self.config.tau) if self.config.base == "fat" else None
        rng = ctx.rng("attack")
        x_adv = attacks.pgd(model, batch.x, aim, budget=ctx.budget, start=start, rng=rng, observe=stop)
        if stop is not None and self.config.attack_bn == "train":
            model(x_adv)  # the program also runs the model on the last iterate, which updates BatchNorm
        return x_adv

    def loss(self, model, batch, x_adv, ctx):
        config = self.config
        if config.base != "trades":
            logits_adv = model(x_adv)
            return LossTerms(robust=losses.cross_entropy(logits_adv, batch.y), logits_adv=logits_adv)
        factor = self.state.factor[batch.y]
        weight = convex_weights(config.beta, factor) if config.normalise else {"robust": factor}
        return trades_terms(model, batch, x_adv, beta=config.beta, bn_order=config.bn_order, weight=weight)

    def on_epoch_end(self, stats, ctx):
        config, state, accuracy = self.config, self.state, stats.robust_accuracy
        if config.accuracy == "program":
            accuracy = classes.hits_per_equal_share(accuracy, stats.count)
        if ctx.epoch + 1 >= config.begin_epoch:
            measured = ~accuracy.isnan()  # an absent class keeps its values
            if config.scale_margin:
                margin = (config.margin_base + accuracy).clamp(0, config.max_margin)
                state.margin = torch.where(measured, margin, state.margin)
            if config.scale_factor:
                state.factor = torch.where(measured, config.factor_base + accuracy, state.factor)
        ctx.log("margin", state.margin)
        ctx.log("factor", state.factor)


def friendly(y, tau):
    """FAT's stopping rule, for `observe`: a sample moves until `tau` of its iterates were misclassified."""
    wrong = torch.zeros_like(y)

    def moves(k, x_k, logits_k):
        nonlocal wrong
        moving = wrong < tau
        wrong = wrong + (logits_k.argmax(1) != y)
        return moving

    return moves
