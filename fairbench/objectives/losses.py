"""Per-sample losses on logits (B, C), in float32 or wider, in nats."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def log_probabilities(logits: Tensor) -> Tensor:
    """log softmax (B, C); half precision is widened to float32 first."""
    return F.log_softmax(logits, dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """-log p_y for each sample: (B,)."""
    return F.nll_loss(log_probabilities(logits), label, reduction="none")


def kl(logits_p: Tensor, logits_q: Tensor) -> Tensor:
    """KL(p || q) summed over classes for each sample: (B,) >= 0. Gradient flows into both arguments."""
    log_p, log_q = log_probabilities(logits_p), log_probabilities(logits_q)
    # p log p with p = exp(log p): where p underflows to 0 the term is exactly 0.
    return (log_p.exp() * (log_p - log_q)).sum(1)


def kl_to_clean(model: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The TRADES adversary's aim: a function logits -> KL(p(x) || p(logits)) (B,), p(x) fixed now."""
    with torch.no_grad():
        clean = model(x)
    return lambda logits: kl(clean, logits)
