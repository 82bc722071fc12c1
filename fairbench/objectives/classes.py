"""Class-wise computations on tensors, without loops over classes and without device synchronisation."""

from typing import Literal

import torch
from torch import Tensor

from fairbench.attacks.labels import Labels, dominant, paired
from fairbench.objectives.class_adversary import worst_distribution as worst_distribution

WeightRule = Literal["paper", "pre_2024_09"]
Ties = Literal["skip", "subtract"]


def class_indicator(label: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """(B, C), 1 where sample b has class c. Unlike `one_hot` it never synchronises with the device.

    A mixed image has both of its classes, if there are at least three (so that a third one can be a target).
    """
    every = torch.arange(num_classes, device=label.device)
    indicator = label[:, None] == every
    if isinstance(label, Labels) and num_classes > 2:
        indicator = indicator | (label.second[:, None] == every)
    return indicator.to(dtype)


def of_class(values: Tensor, label: Tensor) -> Tensor:
    """From `values` (C,) the value of each sample's class (B,); for mixed images a mixture of two values."""
    return paired(lambda y: values[y], label)


def class_means(values: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Class means of `values` (B,) or (B, D): (C,) or (C, D) in float64, 0 for absent classes.

    Gradient flows to `values`. A mixed image counts for its dominant class only.
    """
    indicator = class_indicator(dominant(label), num_classes, torch.float64)
    count = indicator.sum(0).clamp(min=1)
    return indicator.T @ values.double() / (count if values.dim() == 1 else count[:, None])


def class_counts(label: Tensor, num_classes: int) -> Tensor:
    """The number of samples of each class: (C,) in float64. A mixed image counts for its dominant class."""
    return class_indicator(dominant(label), num_classes, torch.float64).sum(0)


def distance_aware_weights(
    similarity: Tensor, strength: float, *, rule: WeightRule = "paper", ties: Ties = "skip"
) -> Tensor:
    """DAFA's class weights (C,) from a similarity matrix (C, C); without ties they sum to C.

    Row i of `similarity` (S) is the mean predicted distribution of class i. For each easier class j
    (S[j, j] > S[i, i]), the weight of class i increases by S[i, j] S[j, j], and that of class j decreases by
    the same amount (rule "paper", DAFA Alg. 1, arXiv 2401.12532). With rule "pre_2024_09" the weight of an
    easier class i decreases by S[i, j] S[j, j] instead, as in the program before September 2024. Between
    classes of equal confidence nothing changes ("skip"), or both decrease ("subtract", the programs).
    """
    confidence = similarity.diagonal()
    own, other = confidence[:, None], confidence[None, :]
    decreases = own > other
    if ties == "subtract":
        itself = torch.eye(len(confidence), dtype=torch.bool, device=similarity.device)
        decreases = (own >= other) & ~itself
    gain = ((own < other) * similarity * other).sum(1)
    loss = similarity.T * own if rule == "paper" else similarity * other
    return 1 + strength * (gain - (decreases * loss).sum(1))


def hits_per_equal_share(accuracy: Tensor, count: Tensor) -> Tensor:
    """Correct samples of each class divided by N / C, the mean class size: (C,), 0 for absent classes.

    The class accuracy in the programs of CFA and FAIR-TAT; it can exceed 1.
    """
    return accuracy.nan_to_num(0.0) * count * (len(count) / count.sum())


def error_share(confusion: Tensor, side: Literal["predicted", "true"]) -> Tensor:
    """Share of all errors predicted as each class, or made on each class: (C,), sum 1; zeros without errors.

    `confusion` (C, C) counts samples of class i predicted as j. FAIR-TAT's CFPS ("predicted"), CFNS ("true").
    """
    errors = (confusion - confusion.diagonal().diag()).sum(0 if side == "predicted" else 1)
    return errors / errors.sum().clamp(min=1)
