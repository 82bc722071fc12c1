"""Class-wise mathematics on tensors, without a Python loop over classes and without a host sync."""

from typing import Literal

import torch
from torch import Tensor

from fairbench.attacks.labels import Labels, dominant, paired

WeightRule = Literal["paper", "pre_2024_09"]
Ties = Literal["skip", "subtract"]


def class_indicator(label: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """(B, C), one where sample b has class c. Unlike `one_hot` it never asks the device for a value.

    A mixed image has two classes where there is a third one, so that a target can be another.
    """
    every = torch.arange(num_classes, device=label.device)
    found = label[:, None] == every
    if isinstance(label, Labels) and num_classes > 2:
        found = found | (label.second[:, None] == every)
    return found.to(dtype)


def of_class(values: Tensor, label: Tensor) -> Tensor:
    """The value (B,) that `values` (C,) holds for the class of each sample; mixed where images are."""
    return paired(lambda y: values[y], label)


def class_means(values: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """Mean of the rows of `values` (B, D) over each class: (C, D) in float64, zeros for absent classes.

    A mixed image counts for its dominant class.
    """
    indicator = class_indicator(dominant(label), num_classes, torch.float64)
    return indicator.T @ values.double() / indicator.sum(0).clamp(min=1)[:, None]


def distance_aware_weights(
    similarity: Tensor, strength: float, *, rule: WeightRule = "paper", ties: Ties = "skip"
) -> Tensor:
    """DAFA's class weights (C,) from a similarity table (C, C); they sum to C without ties.

    Row i of `similarity` is the mean predicted distribution of class i. A class gains, for each
    easier class j, S[i, j] S[j, j]; the easier one loses the same amount (rule "paper", DAFA
    Alg. 1, arXiv 2401.12532; "pre_2024_09" subtracts S[i, j] S[j, j] from the easier class i
    instead, as the program did before September 2024). Classes of equal confidence S[i, i] =
    S[j, j] are left alone ("skip") or both reduced ("subtract", the programs).
    """
    confidence = similarity.diagonal()
    mine, other = confidence[:, None], confidence[None, :]
    not_harder = mine > other
    if ties == "subtract":
        itself = torch.eye(len(confidence), dtype=torch.bool, device=similarity.device)
        not_harder = (mine >= other) & ~itself
    gain = ((mine < other) * similarity * other).sum(1)
    moved = similarity.T * mine if rule == "paper" else similarity * other
    return 1 + strength * (gain - (not_harder * moved).sum(1))


def hits_per_equal_share(accuracy: Tensor, count: Tensor) -> Tensor:
    """Hits of each class divided by N / C, as if all classes had the same size: (C,), 0 for absent classes.

    The class accuracy in the programs of CFA and FAIR-TAT; it can exceed 1.
    """
    return accuracy.nan_to_num(0.0) * count * (len(count) / count.sum())


def error_share(confusion: Tensor, side: Literal["predicted", "true"]) -> Tensor:
    """Share of all errors that land in each class, or are made on it: (C,), sum 1; zeros without an error.

    `confusion` (C, C) counts samples of class i predicted as j. FAIR-TAT's CFPS ("predicted"), CFNS ("true").
    """
    errors = (confusion - confusion.diagonal().diag()).sum(0 if side == "predicted" else 1)
    return errors / errors.sum().clamp(min=1)
