"""FAIR-TAT: targeted attacks, mostly towards classes that many images are misclassified as.

Idea       Every image is attacked towards one wrong class. Classes with more false positives in the last
           epoch (CFPS) are drawn more often. Radii per class as in CFA. FAIR-TAT also averages model weights
           as CFA does (FAWA), which is the component `averaging`.
Objective  mean_b (1 - b) CE(f(x_b), y_b) + b KL(p(x_b) || p(x_adv_b)), b = beta / (1 + beta), x_adv
           minimising CE(f(x_adv_b), t_b) in |x_adv_b - x_b| <= (lambda_r + t_c) eps, t_b ~ pi without y_b,
           pi = softmax(2 CFPS); base "pgd-at": mean_b CE(f(x_adv_b), y_b)
Source     Medi, Jung, Keuper, WACV 2025, arXiv 2410.23142; official program TejaswiniMedi/FAIR-TAT@0154dc3.
Deviates   No released program has the TRADES base: it is a reconstruction with the loss of CFA, from which
           the program is forked. For PGD-AT, the program attacks with BatchNorm in train mode
           (`attack_bn="train"`), divides the number of correct samples by N / C (`accuracy="program"`), keeps
           the own label as target if only one sample of the batch draws it (`collisions="program"`), and runs
           two more train-mode forward passes of the clean images, for its log (`log_forwards`). Not
           implemented: radii from statistics of the targets, or from several statistics at once.
Cost       As the base.
"""

from dataclasses import dataclass
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


@method("fairtat", tags=("trades", "targeted", "margin"))
class FairTat(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        base: Literal["trades", "pgd-at"] = "trades"  # "pgd-at": the official program
        margin_base: float = 0.5  # lambda_r, >= 0; the radius is (lambda_r + t_c) eps
        scale_margin: bool = True  # class-wise radius
        radius: Literal["robust", "cfps", "cfns"] = "robust"  # t_c; 2 CFPS_c; share of errors made on c
        prior: Literal["cfps", "proportional", "uniform"] = "cfps"  # pi: softmax(2 CFPS); CFPS; equal
        begin_epoch: int = 2  # the first epoch with radii and targets from the epoch before
        beta: float = 6.0  # weight of the robust term, >= 0; TRADES base only
        normalise: bool = True  # divide the loss by 1 + beta; false: CE + beta KL
        accuracy: Literal["per-class", "program"] = "per-class"  # divisor of t_c: N_c, or N / C
        collisions: Literal["redraw", "program"] = (
            "redraw"  # draws of the own label; "program": a single one stays
        )
        bn_order: Literal["adv-clean", "clean-adv-clean"] = "adv-clean"  # forward passes; TRADES base only
        attack_bn: Literal["eval", "train"] = "eval"  # mode of BatchNorm during the attack
        log_forwards: bool = False  # clean train-mode forward passes around each step, as in the program

        def __post_init__(self):
            for name in ("margin_base", "beta"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name} is negative")

    @dataclass
    class State:
        margin: Tensor = per_class(1.0)  # (C,) radius in units of eps
        prior: Tensor = per_class(1.0)  # (C,) targets are drawn in proportion to it

    @staticmethod
    def needs(config):
        return Needs(
            epoch_stats={"robust_confusion"},
            attack_bn=config.attack_bn,
            clean_forward_after_step=config.log_forwards,
        )

    def budget(self, y, ctx):
        return ctx.budget.scale(self.state.margin[y], step=False)

    def perturb(self, model, batch, ctx):
        """Targeted attack on the cross-entropy with the radius of each class; one target per image."""
        target = self.targets(batch.y, ctx)
        return attacks.pgd(
            model,
            batch.x,
            lambda logits: -losses.cross_entropy(logits, target),
            budget=ctx.budget,
            start="gaussian" if self.config.base == "trades" else "uniform",
            rng=ctx.rng("attack"),
        )

    def targets(self, y, ctx):
        """A class other than y for each sample (B,), with probability pi_c / (1 - pi_y)."""
        rng, prior = ctx.rng("target"), self.state.prior
        if self.config.prior == "uniform" or ctx.epoch < self.config.begin_epoch:
            return rng.other_class(y, len(prior))
        other = 1 - classes.class_indicator(y, len(prior), prior.dtype)
        weight = prior * other
        # With "proportional", all other classes may have weight 0: then they are equally likely.
        weight = torch.where(weight.sum(1, keepdim=True) > 0, weight, other)
        if self.config.collisions == "redraw":
            return rng.choice(weight)
        drawn = rng.choice(prior.expand_as(other))
        collided = drawn == y
        return torch.where(collided & (collided.sum() > 1), rng.choice(weight), drawn)

    def loss(self, model, batch, x_adv, ctx):
        config = self.config
        if config.base == "trades":
            ones = torch.ones_like(batch.y, dtype=torch.float64)
            weight = convex_weights(config.beta, ones) if config.normalise else None
            return trades_terms(
                model, batch, x_adv, beta=config.beta, bn_order=config.bn_order, weight=weight
            )
        logits_adv, logits = model(x_adv), None
        if config.log_forwards:
            with torch.no_grad():
                logits = model(batch.x)
        return LossTerms(
            robust=losses.cross_entropy(logits_adv, batch.y), logits=logits, logits_adv=logits_adv
        )

    def on_epoch_end(self, stats, ctx):
        config, state, accuracy = self.config, self.state, stats.robust_accuracy
        if config.accuracy == "program":
            accuracy = classes.hits_per_equal_share(accuracy, stats.count)
        cfps = classes.error_share(stats.robust_confusion, "predicted")
        cfns = classes.error_share(stats.robust_confusion, "true")
        if ctx.epoch + 1 >= config.begin_epoch:
            if config.scale_margin:
                margin = (
                    config.margin_base + {"robust": accuracy, "cfps": 2 * cfps, "cfns": cfns}[config.radius]
                )
                state.margin = torch.where(margin.isnan(), state.margin, margin)  # NaN: an absent class
            if config.prior != "uniform":
                state.prior = cfps if config.prior == "proportional" else torch.softmax(2 * cfps, 0)
        ctx.log("margin", state.margin)
        ctx.log("prior", state.prior)
