"""PGD-AT: train on the adversarial images of PGD.

Idea       Minimise the cross-entropy on adversarial images only.
Objective  mean_b CE(f(x_adv_b), y_b), x_adv from K steps of PGD on the same cross-entropy
Source     Madry, Makelov, Schmidt, Tsipras, Vladu, ICLR 2018, arXiv 1706.06083. There is no official
           PyTorch program; the settings are those of the programs of CFA and GAIRAT.
Deviates   During the attack, BatchNorm is in train mode in CFA (`attack_bn="train"`), in eval mode in GAIRAT
           and by default here. DAFA and TRIX start from Gaussian noise (`start="gaussian"`).
Cost       K forward and backward passes for the attack, one for training.
"""

from dataclasses import dataclass
from typing import Literal

from fairbench.api import AdversarialObjective, LossTerms, Needs, attacks, losses, method


@method("pgd-at", tags=("base",))
class PgdAt(AdversarialObjective):
    @dataclass(frozen=True, kw_only=True)
    class Config:
        start: Literal["uniform", "gaussian"] = "uniform"  # start of the attack
        attack_bn: Literal["eval", "train"] = "eval"  # mode of BatchNorm during the attack

    @staticmethod
    def needs(config):
        return Needs(attack_bn=config.attack_bn)

    def perturb(self, model, batch, ctx):
        """Untargeted attack on the cross-entropy."""
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
