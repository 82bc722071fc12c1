"""NEW-METHOD: in every batch, a class adversary weights the classes.

Idea       After the attack, the worst distribution over classes near the uniform one is computed from the
           mean loss of each class in the batch; it weights the samples. Nothing is kept between batches.
           (A working example on PGD-AT; describe your own idea here.)
Objective  mean_b (p_c / q_c) CE(f(x_adv_b), y_b), c = y_b, q uniform over the classes of the batch; p
           maximises sum_c p_c M_c where KL(q || p) <= radius, with M_c the mean loss of class c
Source     Written by `fairbench new method new-method --like faal`.
Deviates   Not at all: there is no paper yet.
Cost       As PGD-AT.
"""

from dataclasses import dataclass

from fairbench.api import AdversarialObjective, LossTerms, attacks, classes, losses, method


@method("new-method", tags=("reweighting",))
class NewMethod(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        radius: float = 0.5  # of the ball around the uniform distribution, >= 0; 0: exactly PGD-AT

        def __post_init__(self):
            if self.radius < 0:
                raise ValueError(f"radius is {self.radius}, expected at least 0")

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the cross-entropy."""

        def aim(logits):
            return losses.cross_entropy(logits, batch.y)

        return attacks.pgd(model, batch.x, aim, budget=ctx.budget, start="uniform", rng=ctx.rng("attack"))

    def loss(self, model, batch, x_adv, ctx):
        logits_adv = model(x_adv)
        # Change here: the base loss, and the risk (B,) of which the adversary gets the class means.
        loss = losses.cross_entropy(logits_adv, batch.y)
        risk = losses.cross_entropy(logits_adv, batch.y)
        return LossTerms(
            robust=loss,
            weight={"robust": self.class_weights(risk, batch.y)[batch.y]},  # weights have no gradient
            logits_adv=logits_adv,
        )

    def class_weights(self, risk, y):
        """p_c / q_c (C,) from the risks (B,) of the batch; 0 for a class without an image."""
        present = classes.class_counts(y, self.info.num_classes) > 0
        mean = classes.class_means(risk, y, self.info.num_classes)
        # Change here: the set of distributions, form="kl", "chi2", "entropic", "cvar" or "max".
        p = classes.worst_distribution(mean, self.config.radius, form="kl", present=present)
        return p * present.sum()
