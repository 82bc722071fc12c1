"""TRADES: trade clean accuracy for stable predictions.

Idea       Cross-entropy on clean images, plus the largest KL divergence that a perturbation causes.
Objective  mean_b CE(f(x_b), y_b) + beta mean_b KL(p(x_b) || p(x_adv_b)), x_adv maximising the same KL
Source     Zhang, Yu, Jiao, Xing, El Ghaoui, Jordan, ICML 2019, arXiv 1901.08573, Eq. 5; official program
           yaodongyu/TRADES@6e8e11b.
Deviates   Order of the train-mode forward passes: clean, adversarial, clean in the program
           (`bn_order="clean-adv-clean"`); adversarial, clean, clean in that of TRADES-AWP; adversarial, clean
           in those of DAFA and TRIX and by default here. Only BatchNorm's running statistics differ.
Cost       The reference for the cost of all methods.
"""

from dataclasses import dataclass
from typing import Literal

from fairbench.api import AdversarialObjective, attacks, losses, method, trades_terms


@method("trades", tags=("base", "trades"))
class Trades(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0  # weight of the robust term, >= 0
        bn_order: Literal["adv-clean", "clean-adv-clean", "adv-clean-clean"] = "adv-clean"  # forward passes

        def __post_init__(self):
            if self.beta < 0:
                raise ValueError(f"beta is {self.beta}, expected at least 0")

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the KL. The random start is essential: at x the gradient of the KL is 0."""
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        return trades_terms(model, batch, x_adv, beta=self.config.beta, bn_order=self.config.bn_order)
