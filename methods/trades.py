"""TRADES: trade clean accuracy against the stability of the prediction.

Idea       Cross-entropy on clean images plus the divergence that a perturbation can cause.
Objective  mean_b CE(f(x_b), y_b) + beta mean_b KL(p(x_b) || p(x_adv_b)), x_adv raising the same KL
Source     Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, ICML 2019, arXiv 1901.08573, Eq. 5; official program
           yaodongyu/TRADES@6e8e11b.
Deviates   The program forwards clean, adversarial, clean in train mode (`bn_order="clean-adv-clean"`);
           that of TRADES-AWP adversarial, clean, clean; DAFA and TRIX, and our default, adversarial, clean.
           Only BatchNorm's running statistics differ.
Cost       The unit of cost.
"""

from dataclasses import dataclass
from typing import Literal

from fairbench.api import AdversarialObjective, attacks, losses, method, trades_terms


@method("trades", tags=("base", "trades"))
class Trades(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0  # weight of the robust term, >= 0
        bn_order: Literal["adv-clean", "clean-adv-clean", "adv-clean-clean"] = "adv-clean"  # forwards

        def __post_init__(self):
            if self.beta < 0:
                raise ValueError(f"beta is {self.beta}, expected at least 0")

    def perturb(self, model, batch, ctx):
        """Untargeted KL adversary; the noise of the start is essential, the KL's gradient is 0 at x."""
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        return trades_terms(model, batch, x_adv, beta=self.config.beta, bn_order=self.config.bn_order)
