"""The labels of images that were mixed, as an attack sees them.

Most of a method needs one label per image, the dominant one. `Labels` is that tensor; what can mix
two labels finds the other one beside it. So an attack on the cross-entropy is paired, and a target avoids
both labels, without a word in the method.
"""

from collections.abc import Callable

import torch
from torch import Tensor


class Labels(Tensor):
    """(B,) int64: the label of the larger share. Whatever is computed from it is a plain tensor."""

    second: Tensor  # (B,) int64, the label mixed in; the first one where nothing was mixed in
    share: Tensor  # (B,) of the first label, in 1/2..1

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


def labels(first: Tensor, second: Tensor, share: Tensor) -> Labels:
    """The labels `first` (B,) with `share` (B,), and `second` with the rest."""
    found = first.as_subclass(Labels)
    found.second, found.share = torch.where(share < 1, second, first), share
    return found


def dominant(label: Tensor) -> Tensor:
    """The label of the larger share, as a plain tensor."""
    return label.as_subclass(Tensor) if isinstance(label, Labels) else label


def paired(term: Callable[[Tensor], Tensor], label: Tensor) -> Tensor:
    """`term(label)`; of two labels lam term(first) + (1 - lam) term(second), each with values (B,)."""
    if not isinstance(label, Labels):
        return term(label)
    return mixed(term(dominant(label)), term(label.second), label.share)


def mixed(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """share * first + (1 - share) * second; exactly `first` where both are equal, or the share is 1.

    `share` (B,) is that of each sample; for a scalar its mean counts.
    """
    weight = share.to(first.dtype)
    return torch.lerp(second, first, weight if first.dim() else weight.mean())
