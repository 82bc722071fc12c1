"""The label's logit against the others: the margin that attacks raise or watch, and whom to aim at."""

import torch
from torch import Tensor


def margin(logits: Tensor, label: Tensor) -> Tensor:
    """The largest other logit minus the label's, above 0 when wrong: (B,).

    What Carlini and Wagner (arXiv 1608.04644) raise, as PGD attacks of that name use it: without their clamp.
    """
    return others(logits, label).amax(1) - of_class(logits, label)


def others(logits: Tensor, label: Tensor) -> Tensor:
    """Logits (B, C) with the label's out of every comparison."""
    return logits.scatter(1, label[:, None], -torch.inf)


def other_classes(logits: Tensor, label: Tensor, count: int) -> Tensor:
    """The `count` (at most C - 1) most likely classes besides `label` (B,), most likely first: (B, count)."""
    order = others(logits, label).argsort(dim=1, descending=True, stable=True)
    return order[:, : min(count, logits.shape[1] - 1)]


def of_class(values: Tensor, label: Tensor) -> Tensor:
    """For each row of `values` (B, C) that of its class: (B,)."""
    return values.gather(1, label[:, None]).squeeze(1)
