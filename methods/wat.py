"""WAT: weight classes by their accumulated loss on held-out images.

Idea       Multiplicative weights (a game against an adversary that picks a class): the cost of a class is
           its TRADES loss on held-out images, summed over the epochs. One more expert is the mean over all
           images, so that average accuracy is kept.
Objective  mean_b (w[y_b] + w_mean) (CE(f(x_b), y_b) + beta KL(p(x_b) || p(x_adv_b))),
           w = C softmax(eta G) over the C classes and the mean, G the summed costs; all 1 in epoch 1
Source     Li, Liu, AAAI 2023, arXiv 2302.04025; official program boqili/WAT@62d1184
Deviates   Costs are class means; the program divides as if all classes had the same size and all batches
           were full (`cost_norm="program"`). The softmax is shifted so that it cannot overflow. Order of the
           forward passes in the program: clean, adversarial (`bn_order="clean-adv"`). The loss is about twice
           that of TRADES, as in the program; `normalise="mean"` removes this factor. Held-out images are
           drawn with the seed; in the program they are the last ones.
Cost       TRADES plus one attack on the held-out images per epoch.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fairbench.api import AdversarialObjective, Needs, attacks, losses, method, per_class, trades_terms


@method("wat", tags=("trades", "reweighting"))
class Wat(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0  # weight of the robust term, >= 0
        eta: float = 0.1  # inverse temperature of the weights, >= 0; 0: TRADES times 2C / (C + 1)
        cost_norm: Literal["class-mean", "program"] = "class-mean"  # divisor of the summed losses
        normalise: Literal["sum", "mean"] = "sum"  # C + 1 weights with sum C, or class weights with mean 1
        bn_order: Literal["adv-clean", "clean-adv"] = "adv-clean"  # order of train-mode forward passes

        def __post_init__(self):
            if min(self.beta, self.eta) < 0:
                raise ValueError("beta and eta have to be at least 0")

    @dataclass
    class State:
        cost: Tensor = per_class(0.0)  # (C,) summed over the epochs
        mean_cost: float = 0.0  # the same for the mean over all held-out images
        weight: Tensor = per_class(1.0)  # (C,)
        mean_weight: float = 1.0

    needs = Needs(validation="end")

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the KL."""
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        weight = self.class_weight()[batch.y]
        return trades_terms(
            model,
            batch,
            x_adv,
            beta=self.config.beta,
            bn_order=self.config.bn_order,
            weight={"clean": weight, "robust": weight},
        )

    def class_weight(self):
        """Weight (C,) of a sample of each class: that of its expert plus that of the mean."""
        weight = self.state.weight + self.state.mean_weight
        return weight / weight.mean() if self.config.normalise == "mean" else weight

    def on_validation(self, stats, ctx):
        stats.check_every_class()
        state = self.state
        cost, mean_cost = self.cost(stats.terms["clean"] + stats.terms["robust"], stats)
        state.cost = state.cost + cost
        state.mean_cost = state.mean_cost + float(mean_cost)
        costs = torch.cat([state.cost, state.cost.new_tensor([state.mean_cost])])
        weight = len(cost) * (self.config.eta * costs).softmax(0)
        state.weight, state.mean_weight = weight[:-1], float(weight[-1])
        ctx.log("weight", state.weight)
        ctx.log("mean_weight", state.mean_weight)

    def cost(self, term, stats):
        """Costs of the classes (C,) and of the mean, from the class means (C,) of a loss term."""
        total, count = stats.count * term, stats.count.sum()
        if self.config.cost_norm == "class-mean":
            return term, total.sum() / count
        counted = (count / stats.batch_size).ceil() * stats.batch_size
        return len(term) * total / counted, total.sum() / counted
