"""MART: insist on the samples that the model gets wrong.

Idea       A cross-entropy with a margin on the adversarial image, and a consistency term that weighs the
           more, the less the model believes in the label of the clean image. No classes in it, but the
           weight 1 - p_y(x) is largest where hard classes are.
Objective  mean_b [CE(f(x_adv_b), y_b) - log(1 - max_{k != y_b} p_k(x_adv_b))]
           + beta mean_b (1 - p_{y_b}(x_b)) KL(p(x_b) || p(x_adv_b)), x_adv raising the cross-entropy
Source     Wang, Zou, Yi, Bailey, Ma, Gu, ICLR 2020 (OpenReview rklOg6EFwS); official program
           YisenWang/MART@2d83e17, which trains ResNet-18 with lr 0.01 and weight decay 3.5e-3.
Deviates   log p(x_adv) is a log-softmax (`stable_log=False`: log(p + 1e-12), the program). The constants
           1.0001 and 1.0000001 are the program's: they bound gradients near p = 1.
Cost       As TRADES, less one forward pass.
"""

from dataclasses import dataclass

from fairbench.api import AdversarialObjective, LossTerms, attacks, losses, method


@method("mart", tags=("base",))
class Mart(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        beta: float = 5.0  # weight of the consistency term, >= 0; 0 leaves the margin loss; 6 for WRN-34-10
        stable_log: bool = True  # False: the program's log(p + 1e-12), other below p = 1e-9 only

        def __post_init__(self):
            if self.beta < 0:
                raise ValueError(f"beta is {self.beta}, expected at least 0")

    def perturb(self, model, batch, ctx):
        """Untargeted cross-entropy adversary from Gaussian noise."""

        def aim(logits):
            return losses.cross_entropy(logits, batch.y)

        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        logits, logits_adv = model(batch.x), model(x_adv)  # this order fixes the BatchNorm statistics
        consistency = losses.mart_consistency(logits, logits_adv, batch.y, stable_log=self.config.stable_log)
        return LossTerms(
            margin=losses.mart_margin(logits_adv, batch.y),
            robust=self.config.beta * consistency,
            logits=logits,
            logits_adv=logits_adv,
        )
