"""MART: put more weight on samples that the model misclassifies.

Idea       A cross-entropy with a margin on the adversarial image, and a consistency term with weight
           1 - p_y(x), which is large where the model is not confident in the label of the clean image. The
           method does not use classes, but this weight is largest for samples of hard classes.
Objective  mean_b [CE(f(x_adv_b), y_b) - log(1 - max_{k != y_b} p_k(x_adv_b))]
           + beta mean_b (1 - p_{y_b}(x_b)) KL(p(x_b) || p(x_adv_b)), x_adv maximising the cross-entropy
Source     Wang, Zou, Yi, Bailey, Ma, Gu, ICLR 2020 (OpenReview rklOg6EFwS); official program
           YisenWang/MART@2d83e17, which trains ResNet-18 with lr 0.01 and weight decay 3.5e-3.
Deviates   log p(x_adv) is a log-softmax; in the program log(p + 1e-12) (`stable_log=False`). The constants
           1.0001 and 1.0000001 are those of the program; they bound gradients near p = 1.
Cost       TRADES minus one forward pass.
"""

from dataclasses import dataclass

from fairbench.api import AdversarialObjective, LossTerms, attacks, losses, method


@method("mart", tags=("base",))
class Mart(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 5.0  # weight of the consistency term, >= 0; 0: margin loss only; paper: 6 for WRN-34-10
        stable_log: bool = True  # False: log(p + 1e-12) as in the program; differs only below p = 1e-9

        def __post_init__(self):
            if self.beta < 0:
                raise ValueError(f"beta is {self.beta}, expected at least 0")

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the cross-entropy from Gaussian noise."""

        def aim(logits):
            return losses.cross_entropy(logits, batch.y)

        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        logits, logits_adv = model(batch.x), model(x_adv)  # this order determines the BatchNorm statistics
        consistency = losses.mart_consistency(logits, logits_adv, batch.y, stable_log=self.config.stable_log)
        return LossTerms(
            margin=losses.mart_margin(logits_adv, batch.y),
            robust=self.config.beta * consistency,
            logits=logits,
            logits_adv=logits_adv,
        )
