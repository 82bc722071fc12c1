"""The outer loss of the TRADES family."""

from typing import Literal

from torch import Tensor, nn

from fairbench.data.batch import Batch
from fairbench.objectives import losses
from fairbench.objectives.loss_terms import LossTerms

BatchNormOrder = Literal["adv-clean", "clean-adv", "clean-adv-clean", "adv-clean-clean"]


def trades_terms(
    model: nn.Module,
    batch: Batch,
    x_adv: Tensor,
    *,
    beta: float,
    bn_order: BatchNormOrder,
    weight: dict[str, Tensor] | None = None,
    divide_by_weight: tuple[str, ...] = (),
) -> LossTerms:
    """clean = CE(f(x), y) and robust = beta KL(p(x) || p(x_adv)) (TRADES, arXiv 1901.08573, Eq. 5).

    `bn_order` is the order of the train-mode forward passes, which determines the BatchNorm statistics:
    "adv-clean" (DAFA, TRIX), "clean-adv" (WAT), "clean-adv-clean" (TRADES, FRL) or "adv-clean-clean"
    (TRADES-AWP); a second clean forward pass gives the target of the KL. `weight` (B,) by term name,
    `divide_by_weight` as in `LossTerms`.
    """
    forwards = [(part, model(x_adv if part == "adv" else batch.x)) for part in bn_order.split("-")]
    logits, *_, target = [output for part, output in forwards if part == "clean"] * 2
    (logits_adv,) = [output for part, output in forwards if part == "adv"]
    return LossTerms(
        clean=losses.cross_entropy(logits, batch.y),
        robust=beta * losses.kl(target, logits_adv),
        weight=weight,
        divide_by_weight=divide_by_weight,
        logits=logits,
        logits_adv=logits_adv,
    )


def convex_weights(beta: float, factor: Tensor) -> dict[str, Tensor]:
    """Weights for `trades_terms` that give (1 - b) CE + b KL, b = beta_y / (1 + beta_y).

    `factor` (B,) is beta_y / beta (CFA, arXiv 2303.14460). With ones it is TRADES divided by 1 + beta.
    """
    share = 1 / (1 + beta * factor)
    return {"clean": share, "robust": factor * share}
