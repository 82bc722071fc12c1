"""DAFA: move weight from easy classes to the hard classes that they are confused with.

Idea       After a warm-up, class weights are computed once from the confusion between classes. They scale
           the cross-entropy, the radius and the step size of each class. DAFA-Uniform (`scale_loss=False`)
           scales only radius and step size.
Objective  mean_b w[y_b] CE(f(x_b), y_b) + beta mean_b KL(p(x_b) || p(x_adv_b)), |x_adv_b - x_b| <= w[y_b] eps
           On PGD-AT mean_b w[y_b] CE(f(x_adv_b), y_b), x_adv maximising the cross-entropy in the same ball.
Source     Lee, Lee, Jang, Park, Bae, Yoon, ICLR 2024, arXiv 2401.12532, Alg. 1; official program
           rucy74/DAFA@c60ba83. The similarity matrix is that of epoch `warmup_epochs`, from the
           outputs used in the loss.
Deviates   Weights below 0 are clamped (`min_weight=None`: the program). Classes of equal confidence do not
           change each other's weight (`ties="subtract"`: the program). `weight_rule="pre_2024_09"`: the
           program as first released. On PGD-AT the program follows each weighted step by an unweighted one
           along the same gradient and into the unweighted ball, which nearly removes the effect of the
           weights (`base="pgd-at-double-step"`).
Cost       As TRADES or PGD-AT.
"""

from dataclasses import dataclass
from typing import Literal

from fairbench.api import ClassWeighted, LossTerms, attacks, losses, method


@method("dafa", tags=("trades", "reweighting", "margin"))
class Dafa(ClassWeighted):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        base: Literal["trades", "pgd-at", "pgd-at-double-step"] = "trades"  # the method that is weighted
        beta: float = 6.0  # weight of the robust term, >= 0; with base "trades" only
        strength: float = 1.0  # lambda of the weight rule, >= 0; 0: exactly the base
        warmup_epochs: int = 70  # the last epoch with weights 1
        scale_margin: bool = True  # w scales the radius
        scale_step: bool = True  # if w scales the radius, it scales the step size too
        scale_loss: bool = True  # w scales the cross-entropy
        scale_kl: bool = False  # w scales the KL term; with base "trades" only
        weight_rule: Literal["paper", "pre_2024_09"] = "paper"
        ties: Literal["skip", "subtract"] = "skip"  # classes of equal confidence
        min_weight: float | None = 0.0  # smallest class weight
        max_weight: float | None = None  # largest class weight
        bn_order: Literal["adv-clean", "clean-adv-clean"] = "adv-clean"  # order of forward passes of "trades"

        def __post_init__(self):
            for name in ("beta", "strength"):
                if getattr(self, name) < 0:
                    raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")

    def budget(self, y, ctx):
        """The weighted budget of each class; for double steps the unweighted one of the second step."""
        return ctx.budget if self.config.base == "pgd-at-double-step" else super().budget(y, ctx)

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the KL (TRADES) or the cross-entropy; the start noise is not scaled."""
        budget, then = ctx.budget, None
        if self.config.base == "pgd-at-double-step":
            budget, then = super().budget(batch.y, ctx), ctx.budget
        return attacks.pgd(
            model,
            batch.x,
            self.aim(model, batch),
            budget=budget,
            then=then,
            start="gaussian",
            rng=ctx.rng("attack"),
        )

    def aim(self, model, batch):
        """The loss that the attack maximises: a function of logits (B, C) with values (B,)."""
        if self.config.base == "trades":
            return losses.kl_to_clean(model, batch.x)
        return lambda logits: losses.cross_entropy(logits, batch.y)

    def loss(self, model, batch, x_adv, ctx):
        if self.config.base == "trades":
            return super().loss(model, batch, x_adv, ctx)
        logits_adv = model(x_adv)
        return LossTerms(
            robust=losses.cross_entropy(logits_adv, batch.y),
            weight=self.sample_weights(batch, robust=self.config.scale_loss),
            logits_adv=logits_adv,
        )
