"""DAFA: move weight from easy classes to the hard ones they are taken for.

Idea       After a warm-up, weights from the confusion between classes scale the cross-entropy, the
           radius and the step of each class. DAFA-Uniform (`scale_loss=False`) scales the margin only.
Objective  mean_b w[y_b] CE(f(x_b), y_b) + beta mean_b KL(p(x_b) || p(x_adv_b)), |x_adv_b - x_b| <= w[y_b] eps
Source     Lee, Lee, Jang, Park, Bae, Yoon, ICLR 2024, arXiv 2401.12532, Alg. 1; official program
           rucy74/DAFA@c60ba83. The similarity table is that of epoch `warmup_epochs`, from the
           outputs that the loss saw.
Deviates   Weights below 0 are clamped (`min_weight=None`: the program). Ties are left alone
           (`ties="subtract"`: the program). `weight_rule="pre_2024_09"`: the program as first released.
Cost       As TRADES.
"""

from dataclasses import dataclass
from typing import Literal

from fairbench.api import ClassWeightedTrades, attacks, losses, method


@method("dafa", tags=("trades", "reweighting", "margin"))
class Dafa(ClassWeightedTrades):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 6.0  # weight of the robust term, >= 0
        strength: float = 1.0  # lambda of the weight rule, >= 0; 0 is exactly TRADES
        warmup_epochs: int = 70  # the last epoch with weights of one
        scale_margin: bool = True  # w scales the radius
        scale_step: bool = True  # ... and then the step too
        scale_loss: bool = True  # w scales the cross-entropy
        scale_kl: bool = False  # w scales the KL term
        weight_rule: Literal["paper", "pre_2024_09"] = "paper"
        ties: Literal["skip", "subtract"] = "skip"  # classes of equal confidence
        min_weight: float | None = 0.0  # smallest class weight
        max_weight: float | None = None  # largest class weight
        bn_order: Literal["adv-clean", "clean-adv-clean"] = "adv-clean"  # train-mode forwards

    def perturb(self, model, batch, ctx):
        """Untargeted KL adversary in the class's own ball; the start's noise is not scaled."""
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))
