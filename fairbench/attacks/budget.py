"""How far and how fast an adversary may move."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

BUDGET_TOLERANCE = 1e-6  # float32 projection can exceed the radius by one unit in the last place


@dataclass(frozen=True)
class Budget:
    """An Linf budget in pixel units of [0, 1].

    `eps` (radius) and `step_size` are numbers, or (B,) tensors with one value per sample.
    """

    eps: float | Tensor
    step_size: float | Tensor
    num_steps: int

    def scale(self, factor: Tensor, *, step: bool = True) -> "Budget":
        """The same budget with radius (and step, unless `step` is false) times `factor` (B,)."""
        return replace(
            self, eps=self.eps * factor, step_size=self.step_size * factor if step else self.step_size
        )


def per_image(value: float | Tensor, images: Tensor) -> float | Tensor:
    """`value` ready to combine with images (B, ...): a number, or (B,) shaped (B, 1, 1, 1) in their dtype."""
    if isinstance(value, Tensor):
        return value.to(images.dtype).reshape(-1, *[1] * (images.dim() - 1))
    return value


def excess(x: Tensor, x_adv: Tensor, budget: Budget) -> Tensor:
    """How far each sample leaves the ball or [0, 1]: (B,), at most 0 when inside, NaN when not finite."""
    # The size of the radius: with a negative class weight (DAFA without a floor) pixels move by |w| eps.
    radius: Any = abs(per_image(budget.eps, x))
    outside = torch.maximum((x_adv - x).abs() - radius, torch.maximum(-x_adv, x_adv - 1))
    return outside.flatten(1).amax(1)
