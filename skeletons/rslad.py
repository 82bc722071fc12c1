"""NEW-METHOD: learn the predictions of a robust teacher.

Idea       Distillation: the teacher's prediction on the clean image is the target on the clean and on the
           adversarial image. (A working example; describe your own idea here.)
Objective  mean_b [ a KL(t_b || p(x_adv_b)) + (1 - a) KL(t_b || p(x_b)) ], with t_b the teacher's prediction
           on x_b; x_adv maximises the first KL
Source     Written by `fairbench new method new-method --like rslad`.
Deviates   Not at all: there is no paper yet.
Cost       As TRADES, and a forward pass of the teacher.
"""

from dataclasses import dataclass

from fairbench.api import AdversarialObjective, LossTerms, Needs, attacks, losses, method


@method("new-method", tags=("distillation",))
class NewMethod(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        adv_share: float = 0.8  # a, the share of the adversarial term, 0..1

        def __post_init__(self):
            if not 0 <= self.adv_share <= 1:
                raise ValueError(f"adv_share is {self.adv_share}, expected 0 to 1")

    needs = Needs(teachers={"teacher"})  # the registry entry sets which network this is

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the KL from the teacher's prediction."""
        # Change here: the target of the attack. ctx.teacher("teacher") gives logits (B, C) without gradient,
        # of adversarial images too; those of batch.x are computed once per step.
        target = ctx.teacher("teacher")(batch.x)

        def aim(logits):
            return losses.kl(target, logits)

        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="gaussian", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        target = ctx.teacher("teacher")(batch.x)
        logits_adv, logits = model(x_adv), model(batch.x)  # the order determines the BatchNorm statistics
        # Change here: the terms. For hard labels in addition: losses.cross_entropy(logits_adv, batch.y).
        return LossTerms(
            robust=self.config.adv_share * losses.kl(target, logits_adv),
            clean=(1 - self.config.adv_share) * losses.kl(target, logits),
            logits=logits,
            logits_adv=logits_adv,
        )
