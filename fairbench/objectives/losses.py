"""Per-sample losses on logits (B, C), in float32 or wider, in nats."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fairbench.attacks.labels import dominant, paired
from fairbench.attacks.margin import gather_class, margin
from fairbench.objectives.classes import class_indicator


def log_probabilities(logits: Tensor) -> Tensor:
    """log softmax (B, C), computed in float32 or wider."""
    return F.log_softmax(logits, dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))


def cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """-log p_y for each sample: (B,); for mixed images the mean over both labels, weighted by share."""
    log_p = log_probabilities(logits)
    return paired(lambda y: F.nll_loss(log_p, y, reduction="none"), label)


def kl(logits_p: Tensor, logits_q: Tensor) -> Tensor:
    """KL(p || q) summed over classes for each sample: (B,) >= 0. Gradient flows into both arguments."""
    log_p, log_q = log_probabilities(logits_p), log_probabilities(logits_q)
    # With p = exp(log p), a term whose p underflows to 0 is exactly 0.
    return (log_p.exp() * (log_p - log_q)).sum(1)


def kl_to_uniform(logits: Tensor) -> Tensor:
    """KL(p || U) = log C - H(p) for each sample: (B,), in 0..log C."""
    return kl(logits, torch.zeros_like(logits))


def runner_up(logits: Tensor, label: Tensor) -> Tensor:
    """The most probable class other than the label: (B,)."""
    is_label = class_indicator(dominant(label), logits.shape[1], torch.bool)
    return logits.detach().masked_fill(is_label, -torch.inf).argmax(1)


def probability_margin(logits: Tensor, label: Tensor) -> Tensor:
    """The largest wrong probability minus that of the label, positive when misclassified: (B,) in -1..1."""
    probability = log_probabilities(logits).exp()
    return paired(lambda y: margin(probability, y), label)


def mart_margin(logits_adv: Tensor, label: Tensor) -> Tensor:
    """MART's boosted cross-entropy (ICLR 2020): -log p_y - log(1 - p_k), k the runner-up: (B,)."""
    probability = log_probabilities(logits_adv).exp()
    wrong = gather_class(probability, runner_up(logits_adv, label))
    # 1.0001 and 1e-12 are the program's; the first bounds the gradient as p_k approaches 1.
    return cross_entropy(logits_adv, label) - torch.log(1.0001 - wrong + 1e-12)


def mart_consistency(logits: Tensor, logits_adv: Tensor, label: Tensor, *, stable_log: bool = True) -> Tensor:
    """MART's (1 - p_y(x)) KL(p(x) || p(x_adv)) for each sample: (B,). Gradient flows into all three.

    With `stable_log` false, the KL uses log(p(x_adv) + 1e-12) as the program does.
    """
    log_p, log_q = log_probabilities(logits), log_probabilities(logits_adv)
    if not stable_log:
        log_q = torch.log(log_q.exp() + 1e-12)
    divergence = (log_p.exp() * (log_p - log_q)).sum(1)
    label_probability = gather_class(log_p.exp(), label)
    return (1.0000001 - label_probability) * divergence  # the program's constant


def kl_to_clean(model: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The loss of the TRADES attack: a function logits -> KL(p(x) || p(logits)) (B,); p(x) is fixed."""
    with torch.no_grad():
        clean = model(x)
    return lambda logits: kl(clean, logits)
