"""The validation of FRL and of fairness-aware weight averaging on held-out images."""

from torch import nn

from fairbench.attacks.pgd import pgd
from fairbench.data.batch import Batch
from fairbench.objectives.contract import Context
from fairbench.objectives.loss_terms import LossTerms
from fairbench.objectives.losses import cross_entropy


def robust_validation(model: nn.Module, batch: Batch, ctx: Context) -> LossTerms:
    """Clean logits, and logits under PGD on the cross-entropy in `ctx.budget`, from a uniform start.

    As in the programs of FRL (arXiv 2010.06121, 20 steps) and CFA (arXiv 2303.14460, 10 steps).
    """
    x_adv = pgd(
        model,
        batch.x,
        lambda logits: cross_entropy(logits, batch.y),
        budget=ctx.budget,
        start="uniform",
        rng=ctx.rng("attack"),
    )
    return LossTerms(logits=model(batch.x), logits_adv=model(x_adv))
