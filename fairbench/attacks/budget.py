"""How far and how fast an adversary may move."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from fairbench.attacks.labels import mixed

Norm = Literal["linf", "l2"]

BUDGET_TOLERANCE = 1e-6  # float32 projection can exceed the radius by one unit in the last place


@dataclass(frozen=True)
class Budget:
    """A budget in pixel units of [0, 1].

    `eps` (radius) and `step_size` are numbers, or (B,) tensors with one value per sample, in `norm`:
    "linf" counts each pixel, "l2" the root of an image's sum of squares.
    """

    eps: float | Tensor
    step_size: float | Tensor
    num_steps: int
    norm: Norm = "linf"

    def scale(self, factor: Tensor, *, step: bool = True) -> "Budget":
        """The same budget with radius (and step, unless `step` is false) times `factor` (B,)."""
        return replace(
            self, eps=self.eps * factor, step_size=self.step_size * factor if step else self.step_size
        )

    def mixed(self, other: "Budget", share: Tensor) -> "Budget":
        """This budget by `share` (B,), `other` by the rest; what both have in common stays as it is."""

        def mix(first: float | Tensor, second: float | Tensor) -> float | Tensor:
            if not isinstance(first, Tensor) and not isinstance(second, Tensor) and first == second:
                return first
            one, two = (
                torch.as_tensor(each, device=share.device).expand_as(share) for each in (first, second)
            )
            return mixed(one, two, share)

        return replace(self, eps=mix(self.eps, other.eps), step_size=mix(self.step_size, other.step_size))


def per_image(value: float | Tensor, images: Tensor) -> float | Tensor:
    """`value` ready to combine with images (B, ...): a number, or (B,) shaped (B, 1, 1, 1) in their dtype."""
    if isinstance(value, Tensor):
        return value.to(images.dtype).reshape(-1, *[1] * (images.dim() - 1))
    return value


def lengths(displacement: Tensor, norm: Norm) -> Tensor:
    """The size of each displacement (B, C, H, W) in `norm`: (B, 1, 1, 1)."""
    axes = tuple(range(1, displacement.dim()))
    order = torch.inf if norm == "linf" else 2
    return torch.linalg.vector_norm(displacement, order, dim=axes, keepdim=True)


def excess(x: Tensor, x_adv: Tensor, budget: Budget) -> Tensor:
    """How far each sample leaves the ball or [0, 1]: (B,), at most 0 when inside, NaN when not finite."""
    # The size of the radius: with a negative class weight (DAFA without a floor) pixels move by |w| eps.
    radius: Any = abs(per_image(budget.eps, x))
    distance = lengths(x_adv - x, budget.norm)
    outside = torch.maximum(distance - radius, torch.maximum(-x_adv, x_adv - 1))
    return outside.flatten(1).amax(1)
