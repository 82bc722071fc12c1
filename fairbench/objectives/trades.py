"""The outer loss that TRADES, DAFA and TRIX share."""

from typing import Literal

from torch import Tensor, nn

from fairbench.data.batch import Batch
from fairbench.objectives import losses
from fairbench.objectives.contract import LossTerms

BatchNormOrder = Literal["adv-clean", "clean-adv-clean"]


def trades_terms(
    model: nn.Module,
    batch: Batch,
    x_adv: Tensor,
    *,
    beta: float,
    bn_order: BatchNormOrder,
    weight: dict[str, Tensor] | None = None,
) -> LossTerms:
    """clean = CE(f(x), y) and robust = beta KL(p(x) || p(x_adv)) (TRADES, arXiv 1901.08573, Eq. 5).

    `bn_order` is the order of the train-mode forwards, which fixes the BatchNorm statistics:
    "adv-clean" (DAFA, TRIX) or "clean-adv-clean" (the TRADES program; the second clean forward is
    the KL's target). `weight` (B,) by term name.
    """
    if bn_order == "clean-adv-clean":
        logits, logits_adv, target = model(batch.x), model(x_adv), model(batch.x)
    else:
        logits_adv, logits = model(x_adv), model(batch.x)
        target = logits
    return LossTerms(
        clean=losses.cross_entropy(logits, batch.y),
        robust=beta * losses.kl(target, logits_adv),
        weight=weight,
        logits=logits,
        logits_adv=logits_adv,
    )
