"""PGD-AT: train on the worst perturbation that gradient ascent finds.

Idea       Minimise the cross-entropy on adversarial images only.
Objective  mean_b CE(f(x_adv_b), y_b), x_adv by K steps raising the same cross-entropy
Source     Madry, Makelov, Schmidt, Tsipras, Vladu, ICLR 2018, arXiv 1706.06083. There is no official
           PyTorch program; settings as in the programs of CFA and GAIRAT.
Deviates   CFA attacks in BatchNorm train mode (`attack_bn="train"`), GAIRAT in eval mode, our default.
           DAFA and TRIX start from Gaussian noise (`start="gaussian"`).
Cost       K forward-backward passes to the input, one training pass.
"""

from dataclasses import dataclass
from typing import Literal

from fairbench.api import AdversarialObjective, LossTerms, Needs, attacks, losses, method


@method("pgd-at", tags=("base",))
class PgdAt(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        start: Literal["uniform", "gaussian"] = "uniform"  # first point of the attack
        attack_bn: Literal["eval", "train"] = "eval"  # BatchNorm during the attack

    @staticmethod
    def needs(config):
        return Needs(attack_bn=config.attack_bn)

    def perturb(self, model, batch, ctx):
        """Untargeted cross-entropy adversary."""
        return attacks.pgd(
            model,
            batch.x,
            lambda logits: losses.cross_entropy(logits, batch.y),
            budget=ctx.budget,
            start=self.config.start,
            rng=ctx.rng("attack"),
        )

    def loss(self, model, batch, x_adv, ctx):
        logits_adv = model(x_adv)
        return LossTerms(robust=losses.cross_entropy(logits_adv, batch.y), logits_adv=logits_adv)
