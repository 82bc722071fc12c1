"""NEW-METHOD: larger weights for classes with low robust accuracy.

Idea       A class whose robust accuracy was below the mean in the last epoch gets a larger
           cross-entropy weight in this epoch. (A working example; describe your own idea here.)
Objective  mean_b w[y_b] CE(f(x_b), y_b) + beta mean_b KL(p(x_b) || p(x_adv_b))
Source     Written by `fairbench new method new-method`.
Deviates   Not at all: there is no paper yet.
Cost       As TRADES.
"""

from dataclasses import dataclass

from torch import Tensor

from fairbench.api import AdversarialObjective, Needs, attacks, losses, method, per_class, trades_terms


@method("new-method", tags=("reweighting", "trades"))
class NewMethod(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:  # hyper-parameters: meaning, range, neutral value
        beta: float = 6.0  # weight of the robust term, >= 0
        strength: float = 1.0  # weight per unit of accuracy gap, >= 0; 0: exactly TRADES

        def __post_init__(self):
            if self.beta < 0 or self.strength < 0:
                raise ValueError("beta and strength have to be at least 0")

    @dataclass
    class State:  # saved and restored when training resumes
        weight: Tensor = per_class(1.0)  # (C,) cross-entropy weight

    needs = Needs(epoch_stats={"robust_accuracy"})  # what the trainer has to provide

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the KL inside ctx.budget: x_adv (B, channels, H, W)."""
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        """Loss terms per sample, before averaging, and their weights."""
        return trades_terms(
            model,
            batch,
            x_adv,
            beta=self.config.beta,
            bn_order="adv-clean",
            weight={"clean": self.state.weight[batch.y]},
        )

    def on_epoch_end(self, stats, ctx):
        """Update the state; only the on_... hooks may change it."""
        accuracy = stats.of_every_class("robust_accuracy")  # (C,)
        lag = (accuracy.mean() - accuracy).clamp(min=0)
        self.state.weight = 1 + self.config.strength * lag
        ctx.log("weight", self.state.weight)
