"""RSLAD: learn the soft labels of a larger robust network, in the attack and in both terms of the loss.

Idea       Distillation: the student learns the predictions that a robust teacher makes on clean images, on
           clean and on adversarial images. The labels themselves are not used.
Objective  mean_b [ a k(t_b, p(x_adv_b)) + (1 - a) k(t_b, p(x_b)) ] / d, with t_b the teacher's prediction
           on x_b and k(t, p) = sum_c t_c (log(t_c + 1e-5) - log p_c); x_adv maximises KL(t || p(x_adv))
Source     Zi, Zhao, Ma, Jiang, ICCV 2021, arXiv 2108.07969; official program zibojia/RSLAD@c40e04f.
Deviates   d is 10 for every number of classes; in the program it is C, and its CIFAR-100 script multiplies
           by 10. Published teachers: WRN-34-10 (CIFAR-10) and WRN-70-16 (CIFAR-100). The program selects the
           epoch with the best PGD-20 accuracy on test images; here the protocol selects.
Cost       K forward and backward passes for the attack, two for training, one of the teacher.
"""

from dataclasses import dataclass

from fairbench.api import AdversarialObjective, LossTerms, Needs, attacks, losses, method

OFFSET = 1e-5  # of the teacher's probabilities in the logarithm; it changes the value of the loss only


@method("rslad", tags=("distillation",))
class Rslad(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        adv_share: float = 5 / 6  # a, the share of the adversarial term, 0..1; the clean one has the rest
        divisor: float = 10.0  # d, > 0

        def __post_init__(self):
            if not 0 <= self.adv_share <= 1:
                raise ValueError(f"adv_share is {self.adv_share}, expected 0 to 1")
            if self.divisor <= 0:
                raise ValueError(f"divisor is {self.divisor}, expected more than 0")

    needs = Needs(teachers={"teacher"})

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the KL from the teacher's prediction on the clean image."""
        soft_labels = ctx.teacher("teacher")(batch.x)
        return attacks.pgd(
            model,
            batch.x,
            lambda logits: losses.kl(soft_labels, logits),
            budget=ctx.budget,
            start="gaussian",
            rng=ctx.rng("attack"),
        )

    def loss(self, model, batch, x_adv, ctx):
        soft_labels = ctx.teacher("teacher")(batch.x)
        logits_adv, logits = model(x_adv), model(batch.x)  # the order fixes the BatchNorm statistics
        share, divisor = self.config.adv_share, self.config.divisor
        return LossTerms(
            robust=share / divisor * distance(soft_labels, logits_adv),
            clean=(1 - share) / divisor * distance(soft_labels, logits),
            logits=logits,
            logits_adv=logits_adv,
        )


def distance(teacher_logits, logits):
    """k(t, p) of each sample (B,): 0 to C * OFFSET when both predictions are equal."""
    log_t, log_p = losses.log_probabilities(teacher_logits), losses.log_probabilities(logits)
    t = log_t.exp()
    return (t * ((t + OFFSET).log() - log_p)).sum(1)
