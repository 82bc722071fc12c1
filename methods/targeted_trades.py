"""TARGETED TRADES: the TRADES loss with a weaker, more diverse attack.

Idea       Attack every image towards one wrong class, drawn uniformly, instead of away from its own class.
Objective  TRADES, with x_adv minimising CE(f(x_adv_b), t_b) for a random t_b != y_b
Source     Medi, Jung, Keuper, TRIX, arXiv 2507.07768; the targeted branch of the official program
           Fairness-a11y/TRIX@cdeb435 applied to all samples (it has no program of its own).
Deviates   -
Cost       As TRADES.
"""

from dataclasses import dataclass
from typing import Literal

from fairbench.api import AdversarialObjective, attacks, losses, method, trades_terms


@method("targeted-trades", tags=("trades", "targeted"))
class TargetedTrades(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0  # weight of the robust term, >= 0
        bn_order: Literal["adv-clean", "clean-adv-clean"] = "adv-clean"  # order of train-mode forward passes

        def __post_init__(self):
            if self.beta < 0:
                raise ValueError(f"beta is {self.beta}, expected at least 0")

    def perturb(self, model, batch, ctx):
        """Targeted attack on the cross-entropy; one target per image, the same for all steps."""
        target = ctx.rng("target").other_class(batch.y, self.info.num_classes)
        return attacks.pgd(
            model,
            batch.x,
            lambda logits: -losses.cross_entropy(logits, target),
            budget=ctx.budget,
            start="gaussian",
            rng=ctx.rng("attack"),
        )

    def loss(self, model, batch, x_adv, ctx):
        return trades_terms(model, batch, x_adv, beta=self.config.beta, bn_order=self.config.bn_order)
