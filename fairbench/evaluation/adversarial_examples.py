"""Adversarial images on disk: one byte per pixel, and each is still adversarial when it is read.

A perturbation is rounded to 127 levels in each direction, relative to its largest pixel. Images that are no
longer misclassified as the same class after rounding are stored in full precision; they are few.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fairbench.attacks.budget import Norm, per_image
from fairbench.core.errors import CheckpointError
from fairbench.evaluation.verdicts import fooled_by
from fairbench.models.checkpoints import read_tensors, write_tensors

LEVELS = 127


@dataclass(frozen=True)
class AdversarialExamples:
    """Images broken by an attack: their positions (M,) and the adversarial images (M, ch, H, W)."""

    index: Tensor
    x_adv: Tensor


def write_examples(
    path: Path, model: nn.Module, x: Tensor, y: Tensor, examples: AdversarialExamples, eps: float, norm: Norm
) -> None:
    """Write `examples` against `model` (frozen, eval mode) for clean x (M, ch, H, W) with labels y (M,)."""
    x_adv = examples.x_adv.to(x)
    displacement = x_adv - x
    scale = (displacement.flatten(1).abs().amax(1) / LEVELS) if len(x) else displacement.new_zeros(0)
    positive_scale = scale.clamp(min=torch.finfo(scale.dtype).tiny)
    delta = torch.round(displacement / per_image(positive_scale, x)).to(torch.int8)
    _, exact_prediction = fooled_by(model, x, y, x_adv, eps, norm)
    fooled, prediction = fooled_by(model, x, y, _decode(x, delta, scale), eps, norm)
    changed = (~(fooled & (prediction == exact_prediction))).cpu()
    tensors = {
        "index": examples.index,
        "delta": delta,
        "scale": scale,
        "exact_index": examples.index[changed],
        "exact": examples.x_adv[changed],
    }
    write_tensors(path, tensors, {"eps": eps, "norm": norm})


def read_examples(path: Path, images: Tensor) -> AdversarialExamples:
    """The adversarial examples in `path`; `images` (N, ch, H, W) in [0, 1] are the whole test set.

    Raises CheckpointError when the file is missing or damaged.
    """
    tensors, _ = read_tensors(path, images.device)
    try:
        index = tensors["index"]
        x_adv = _decode(images[index], tensors["delta"], tensors["scale"])
        x_adv[torch.searchsorted(index, tensors["exact_index"])] = tensors["exact"]
    except (KeyError, IndexError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not hold adversarial images: {error}.") from error
    return AdversarialExamples(index.cpu(), x_adv)


def _decode(x: Tensor, delta: Tensor, scale: Tensor) -> Tensor:
    """Adversarial images (M, ch, H, W) from clean ones and rounded perturbations."""
    return (x + delta.to(x.dtype) * per_image(scale, x)).clamp(0, 1)
