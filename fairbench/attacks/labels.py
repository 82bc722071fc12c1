"""Labels of mixed images (Mixup, CutMix): a tensor of dominant labels that carries the second labels.

Most code of a method needs one label per image, the dominant one. `Labels` is that tensor. Functions that
support mixed images read the second label from it. So an attack on the cross-entropy uses both labels, and a
random target avoids both, without any code in the method.
"""

from collections.abc import Callable

import torch
from torch import Tensor


class Labels(Tensor):
    """(B,) int64: the label with the larger share. Operations on it return plain tensors."""

    second: Tensor  # (B,) int64, the label mixed in; equal to the first label where nothing is mixed in
    share: Tensor  # (B,) of the first label, in 1/2..1

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


def labels(first: Tensor, second: Tensor, share: Tensor) -> Labels:
    """`Labels` with `first` (B,) by `share` (B,) and `second` (B,) by 1 - share."""
    both = first.as_subclass(Labels)
    both.second, both.share = torch.where(share < 1, second, first), share
    return both


def dominant(label: Tensor) -> Tensor:
    """The label with the larger share, as a plain tensor."""
    return label.as_subclass(Tensor) if isinstance(label, Labels) else label


def paired(term: Callable[[Tensor], Tensor], label: Tensor) -> Tensor:
    """`term(label)`, (B,); for mixed labels share * term(first) + (1 - share) * term(second)."""
    if not isinstance(label, Labels):
        return term(label)
    return mixed(term(dominant(label)), term(label.second), label.share)


def mixed(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """share * first + (1 - share) * second; exactly `first` where both are equal or the share is 1.

    `share` is (B,), one value per sample; for scalar `first` and `second` its mean is used.
    """
    weight = share.to(first.dtype)
    return torch.lerp(second, first, weight if first.dim() else weight.mean())
