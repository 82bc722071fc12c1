"""NEW-METHOD: an attack and a loss.

Idea       Cross-entropy on clean images, plus the largest KL divergence that a perturbation causes.
           (A working example, TRADES; describe your own idea here.)
Objective  mean_b CE(f(x_b), y_b) + beta mean_b KL(p(x_b) || p(x_adv_b)), x_adv maximising the same KL
Source     Written by `fairbench new method new-method --like trades`.
Deviates   Not at all: there is no paper yet.
Cost       As TRADES.
"""

from dataclasses import dataclass

from fairbench.api import AdversarialObjective, LossTerms, attacks, losses, method


@method("new-method", tags=("trades",))
class NewMethod(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        # Change here: your hyper-parameters, each with its meaning, range and neutral value.
        beta: float = 6.0  # weight of the robust term, >= 0; 0: training on clean images

        def __post_init__(self):
            if self.beta < 0:
                raise ValueError(f"beta is {self.beta}, expected at least 0")

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the KL inside ctx.budget: x_adv (B, channels, H, W)."""
        # Change here: the loss that the attack maximises, a function of logits (B, C) with values (B,).
        # For the cross-entropy: lambda logits: losses.cross_entropy(logits, batch.y), start="uniform".
        aim = losses.kl_to_clean(model, batch.x)
        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        """Loss terms per sample (B,), before averaging."""
        logits_adv, logits = model(x_adv), model(batch.x)  # the order determines the BatchNorm statistics
        # Change here: the terms, under your own names. The loss is the sum of their means.
        return LossTerms(
            clean=losses.cross_entropy(logits, batch.y),
            robust=self.config.beta * losses.kl(logits, logits_adv),
            logits=logits,  # class accuracies are computed from these two
            logits_adv=logits_adv,
        )
