"""The margin between the label's logit and the best other one, which attacks raise or watch."""

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


def of_class(values: Tensor, label: Tensor) -> Tensor:
    """For each row of `values` (B, C) that of its class: (B,)."""
    return values.gather(1, label[:, None]).squeeze(1)
