"""FAAL: a second adversary chooses the worst class distribution near the uniform one.

Idea       In every batch, after the attack, an adversary finds the distribution p over classes that has the
           largest mean margin in a ball around the uniform one; p then weights the samples. Mainly for the
           fine-tuning of a robust network for two epochs. Bases: PGD-AT, TRADES, MART. Other balls: `form`.
Objective  mean_b (p_c / q_c) loss_b, c = y_b, with q uniform over the classes of the batch; p maximises
           sum_c n_c p_c M_c where KL(q || p) <= tau, with n_c the images of class c and M_c their mean of
           max_{j != y_b} p_j(x_adv_b) - p_{y_b}(x_adv_b); loss_b and x_adv are those of the base
Source     Zhang, Zhang, Mu, Huang, Ruan, CVPR 2024, arXiv 2402.17729; official program TrustAI/FAAL@b20ee9d.
Deviates   p is over the classes of the batch; the program's p is over all classes, and those without an image
           often get most of the weight (`absent="program"`). p is exact, the program's solver to 2e-7.
           `count_weighted=False` is without n_c. With PGD-AT a clean forward moves BatchNorm's statistics,
           as in the program (`clean_forward=False`: as PGD-AT). With MART the program's attack raises the KL,
           and its loss has log(p + 1e-12) (`base="mart-kl"`, `stable_log=False`); `base="mart"` attacks as
           MART. The program selects the epoch on test images; here the protocol selects.
Cost       As the base; with PGD-AT one clean forward more.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from fairbench.api import AdversarialObjective, LossTerms, attacks, classes, losses, method, trades_terms


@method("faal", tags=("reweighting", "fine-tuning"))
class Faal(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        base: Literal["pgd-at", "trades", "mart", "mart-kl"] = "pgd-at"  # attack and unweighted loss
        tau: float = 0.5  # radius of the ball, >= 0; 0 is exactly the base; without effect for form "max"
        form: Literal["kl", "chi2", "entropic", "cvar", "max"] = "kl"  # as in classes.worst_distribution
        beta: float = 6.0  # weight of the robust term, >= 0; TRADES and MART bases only
        count_weighted: bool = True  # the factor n_c
        absent: Literal["skip", "program"] = "skip"  # classes without an image in the batch
        clean_forward: bool = True  # for BatchNorm's statistics; PGD-AT base only
        stable_log: bool = True  # false: log(p + 1e-12), the program; MART bases only

        def __post_init__(self):
            for name in ("tau", "beta"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")

    def perturb(self, model, batch, ctx):
        """The adversary of the base: raises the cross-entropy or, with "trades" and "mart-kl", the KL."""
        if self.config.base in ("trades", "mart-kl"):
            aim = losses.kl_to_clean(model, batch.x)
        else:
            aim = partial(losses.cross_entropy, label=batch.y)
        start = "uniform" if self.config.base == "pgd-at" else "gaussian"
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start=start, rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        terms = self.base_terms(model, batch, x_adv)
        margin = losses.probability_margin(terms.logits_adv, batch.y)
        terms.weight = dict.fromkeys(terms.terms, self.class_weights(margin, batch.y)[batch.y])
        return terms

    def base_terms(self, model, batch, x_adv):
        """The loss of the base, without weights."""
        config, y = self.config, batch.y
        if config.base == "trades":
            return trades_terms(model, batch, x_adv, beta=config.beta, bn_order="adv-clean")
        if config.base == "pgd-at":
            logits_adv = model(x_adv)
            with torch.no_grad():
                logits = model(batch.x) if config.clean_forward else None
            robust = losses.cross_entropy(logits_adv, y)
            return LossTerms(robust=robust, logits=logits, logits_adv=logits_adv)
        if config.base == "mart":  # the order of the forwards fixes the BatchNorm statistics
            logits, logits_adv = model(batch.x), model(x_adv)
        else:
            logits_adv, logits = model(x_adv), model(batch.x)
        consistency = losses.mart_consistency(logits, logits_adv, y, stable_log=config.stable_log)
        return LossTerms(
            margin=losses.mart_margin(logits_adv, y),
            robust=config.beta * consistency,
            logits=logits,
            logits_adv=logits_adv,
        )

    def class_weights(self, margin, y):
        """p_c / q_c (C,) from the margins (B,) of the batch; 0 for a class without an image."""
        config, count = self.config, classes.class_counts(y, self.info.num_classes)
        risk = torch.where(count > 0, classes.class_means(margin, y, self.info.num_classes), -1.0)
        if config.count_weighted:
            risk = count * risk
        present = (count > 0) | (config.absent == "program")
        p = classes.worst_distribution(risk, config.tau, form=config.form, present=present)
        uniform = present.double() / present.double().sum()
        return torch.where(present, p / uniform, 0.0)
