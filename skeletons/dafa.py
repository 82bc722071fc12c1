"""NEW-METHOD: class weights from the confusion between classes.

Idea       After a warm-up, a class that is taken for others gets a larger weight, and a class that others
           are taken for a smaller one. (A working example; describe your own idea here.)
Objective  mean_b w[y_b] CE(f(x_b), y_b) + beta mean_b KL(p(x_b) || p(x_adv_b)), |x_adv_b - x_b| <= w[y_b] eps
Source     Written by `fairbench new method new-method --like dafa`.
Deviates   Not at all: there is no paper yet.
Cost       As TRADES.
"""

from dataclasses import dataclass

from torch import Tensor

from fairbench.api import AdversarialObjective, Needs, attacks, losses, method, per_class, trades_terms


@method("new-method", tags=("trades", "reweighting", "margin"))
class NewMethod(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0  # weight of the robust term, >= 0
        strength: float = 1.0  # weight per unit of confused probability, >= 0; 0: exactly TRADES
        warmup_epochs: int = 70  # the last epoch with weights 1

        def __post_init__(self):
            if self.beta < 0 or self.strength < 0:
                raise ValueError("beta and strength have to be at least 0")

    @dataclass
    class State:
        # Change here: what is saved and restored; per_class_pair(0.0) is a (C, C) matrix.
        weight: Tensor = per_class(1.0)  # (C,)

    needs = Needs(epoch_stats={"robust_probability"})  # for instance "robust_accuracy" or "robust_confusion"

    def budget(self, y, ctx):
        """Radius and step size of each sample. Without this method all classes have the same."""
        return ctx.budget.scale(self.state.weight[y])

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the KL; ctx.budget is the result of `budget`."""
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        # Change here: the terms that the class weight scales, "clean" or "robust" or both.
        weight = {"clean": self.state.weight[batch.y]}
        return trades_terms(model, batch, x_adv, beta=self.config.beta, bn_order="adv-clean", weight=weight)

    def on_epoch_end(self, stats, ctx):
        # Change here: when the weights are computed, and from what.
        if ctx.epoch == self.config.warmup_epochs:
            similarity = stats.of_every_class("robust_probability")  # (C, C), row i: images of class i
            lost, taken = similarity.sum(1), similarity.sum(0)  # both with the diagonal, which cancels
            self.state.weight = (1 + self.config.strength * (lost - taken)).clamp(min=0)
        ctx.log("weight", self.state.weight)
