"""FLOOR: lift the classes that lag behind.

Idea       A class whose robust accuracy fell below the mean in the last epoch gets a larger
           cross-entropy weight in this one. (An example that works; write your own idea here.)
Objective  mean_b w[y_b] CE(f(x_b), y_b) + beta mean_b KL(p(x_b) || p(x_adv_b))
Source     Written by `fairbench new method floor`.
Deviates   In nothing: there is no paper yet.
Cost       As TRADES.
"""

from dataclasses import dataclass

from torch import Tensor

from fairbench.api import AdversarialObjective, Needs, attacks, losses, method, per_class, trades_terms


@method("floor", tags=("reweighting", "trades"))
class Floor(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:  # the hyper-parameters: meaning, range, neutral value
        beta: float = 6.0  # weight of the robust term, >= 0
        strength: float = 1.0  # gap-to-weight slope, >= 0; 0 is exactly TRADES

        def __post_init__(self):
            if self.beta < 0 or self.strength < 0:
                raise ValueError("beta and strength have to be at least 0")

    @dataclass
    class State:  # what survives a resume; nothing outside it does
        weight: Tensor = per_class(1.0)  # (C,) cross-entropy weight

    needs = Needs(epoch_stats={"robust_accuracy"})  # what the house has to supply

    def perturb(self, model, batch, ctx):
        """Untargeted KL adversary inside ctx.budget: x_adv (B, channels, H, W)."""
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        """Terms per sample, before any mean; weights apart from them."""
        return trades_terms(
            model,
            batch,
            x_adv,
            beta=self.config.beta,
            bn_order="adv-clean",
            weight={"clean": self.state.weight[batch.y]},
        )

    def on_epoch_end(self, stats, ctx):
        """Only hooks change the state."""
        accuracy = stats.of_every_class("robust_accuracy")  # (C,)
        lag = (accuracy.mean() - accuracy).clamp(min=0)
        self.state.weight = 1 + self.config.strength * lag
        ctx.log("weight", self.state.weight)
