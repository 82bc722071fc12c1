"""Adversarial images on disk: one byte per pixel, and each still fools when read back.

A displacement is rounded to 127 levels of its own largest pixel each way. The few images that are then
taken for another class, by the same verdict that counted them, are kept in full precision.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fairbench.attacks.budget import Norm
from fairbench.evaluation.verdicts import fooled_by
from fairbench.models.checkpoints import read_tensors, write_tensors

LEVELS = 127


@dataclass(frozen=True)
class AdversarialExamples:
    """Images that an attack broke: positions (M,), adversarial images (M, ch, H, W)."""

    index: Tensor
    x_adv: Tensor


def write_evidence(
    path: Path, model: nn.Module, x: Tensor, y: Tensor, evidence: AdversarialExamples, eps: float, norm: Norm
) -> None:
    """Write `evidence` against `model` (frozen, eval mode) for clean x (M, ch, H, W) with labels y (M,)."""
    moved = evidence.x_adv.to(x) - x
    scale = (moved.flatten(1).abs().amax(1) / LEVELS) if len(x) else moved.new_zeros(0)
    delta = torch.round(moved / _column(scale.clamp(min=torch.finfo(scale.dtype).tiny), moved))
    packed = delta.to(torch.int8)
    _, wanted = fooled_by(model, x, y, evidence.x_adv.to(x), eps, norm)
    fooled, prediction = fooled_by(model, x, y, _unpack(x, packed, scale), eps, norm)
    again = fooled & (prediction == wanted)
    tensors = {
        "index": evidence.index,
        "delta": packed,
        "scale": scale,
        "exact_index": evidence.index[(~again).cpu()],
        "exact": evidence.x_adv[(~again).cpu()],
    }
    write_tensors(path, tensors, {"eps": eps, "norm": norm})


def read_evidence(path: Path, images: Tensor) -> AdversarialExamples:
    """The evidence in `path`; `images` (N, ch, H, W) in [0, 1] are those of the whole test set.

    Raises CheckpointError when the file is missing or damaged.
    """
    tensors, _ = read_tensors(path, images.device)
    index = tensors["index"]
    x_adv = _unpack(images[index], tensors["delta"], tensors["scale"])
    x_adv[torch.searchsorted(index, tensors["exact_index"])] = tensors["exact"]
    return AdversarialExamples(index.cpu(), x_adv)


def _unpack(x: Tensor, delta: Tensor, scale: Tensor) -> Tensor:
    return (x + delta.to(x.dtype) * _column(scale, x)).clamp(0, 1)


def _column(scale: Tensor, images: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (images.dim() - 1))
