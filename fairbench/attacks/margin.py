"""Margins: the logit of the label compared with those of the other classes, and the classes to target."""

import torch
from torch import Tensor


def margin(logits: Tensor, label: Tensor) -> Tensor:
    """The largest other logit minus the logit of the label, positive when misclassified: (B,).

    The loss of Carlini and Wagner (arXiv 1608.04644) without their clamp, as PGD attacks use it.
    """
    return without_label(logits, label).amax(1) - gather_class(logits, label)


def without_label(logits: Tensor, label: Tensor) -> Tensor:
    """Logits (B, C) with minus infinity at the label."""
    return logits.scatter(1, label[:, None], -torch.inf)


def other_classes(logits: Tensor, label: Tensor, count: int) -> Tensor:
    """The `count` (at most C - 1) most likely classes except `label` (B,), most likely first: (B, count)."""
    order = without_label(logits, label).argsort(dim=1, descending=True, stable=True)
    return order[:, : min(count, logits.shape[1] - 1)]


def gather_class(values: Tensor, label: Tensor) -> Tensor:
    """From each row of `values` (B, C) the entry of its class `label` (B,): (B,)."""
    return values.gather(1, label[:, None]).squeeze(1)
