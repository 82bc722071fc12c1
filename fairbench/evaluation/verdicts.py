"""Verdicts: whether an image is adversarial, decided by the original model in the simplest way.

The network runs in eval mode and float32, without folding, compilation or reduced precision, always in
batches of the same size. A success of a search counts only if the verdict confirms it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fairbench.attacks.budget import BUDGET_TOLERANCE
from fairbench.core.errors import ContractError, DataError
from fairbench.data.images import ImageSet, to_unit

VERDICT_BATCH = 64
CHUNK = 1024  # images converted to float at a time


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """Logits (B, C) of images x (B, ch, H, W). Raises DataError when they are not finite."""
    logits = _logits(model, x)
    if not bool(torch.isfinite(logits).all()):
        raise DataError("the model's outputs are not finite, so it cannot be evaluated.")
    return logits


def logits_of_set(model: nn.Module, images: ImageSet) -> Tensor:
    """Logits (N, C) of all images of a set. Raises DataError when they are not finite."""
    return torch.cat([logits_of(model, to_unit(part)) for part in torch.split(images.images, CHUNK)])


def _logits(model: nn.Module, x: Tensor) -> Tensor:
    """Logits (B, C), computed in batches that are filled up to the same size."""
    parts = []
    with torch.no_grad():
        for batch in x.split(VERDICT_BATCH):
            filled = torch.cat([batch, batch[:1].expand(VERDICT_BATCH - len(batch), *batch.shape[1:])])
            parts.append(model(filled)[: len(batch)])
    return torch.cat(parts)


def fooled_by(
    model: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, eps: float, norm: str
) -> tuple[Tensor, Tensor]:
    """Whether each `x_adv` is adversarial (B,) bool, and the predictions (B,) on `x_adv`.

    Adversarial: predicted as another class than y with finite logits, at most `eps` + 1e-6 from x in `norm`
    (linf or l2), pixels in [0, 1].
    """
    if len(x) == 0:
        return torch.zeros_like(y, dtype=torch.bool), torch.zeros_like(y)
    logits = _logits(model, x_adv)
    prediction = logits.argmax(1)
    finite = torch.isfinite(logits).all(1)
    return inside(x, x_adv, eps, norm) & finite & (prediction != y), prediction


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside the block, float32 is exact: no TF32 in matrix products and convolutions, no autocast."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def inside(x: Tensor, x_adv: Tensor, eps: float, norm: str) -> Tensor:
    """Which images (B,) are inside the ball and [0, 1]; NaN counts as outside."""
    displacement = (x_adv - x).flatten(1).double()
    distance = displacement.abs().amax(1) if norm == "linf" else displacement.norm(dim=1)
    pixels = ((x_adv >= 0) & (x_adv <= 1)).flatten(1).all(1)
    return pixels & (distance <= eps + BUDGET_TOLERANCE)


def require_inside(x: Tensor, x_adv: Tensor, eps: float, norm: str = "linf") -> None:
    """Raise ContractError when images of an attack are outside the ball or [0, 1]."""
    outside = int((~inside(x, x_adv, eps, norm)).sum())
    if outside:
        raise ContractError(
            f"the attack left its budget of {eps:.4f} ({norm}) on {outside} of {len(x)} images."
        )
