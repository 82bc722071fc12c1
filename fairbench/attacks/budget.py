"""The budget of an attack: radius, step size, number of steps and norm."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, overload

import torch
from torch import Tensor

from fairbench.attacks.labels import mixed
from fairbench.core.errors import ContractError

Norm = Literal["linf", "l2"]

BUDGET_TOLERANCE = 1e-6  # float32 projection can exceed the radius by one unit in the last place


@dataclass(frozen=True)
class Budget:
    """Radius, step size, number of steps and norm of an attack.

    `eps` (radius) and `step_size` are in pixel units of [0, 1]: numbers, or (B,) tensors with one value per
    sample. `norm` is "linf" (maximum over pixels) or "l2" (Euclidean norm of an image).

    With a `reach`, in radii and above 0, an attack clips to [0, 1] but does not project to the ball: its
    images may lie `reach` * `eps` away (N-FGSM: 3).
    """

    eps: float | Tensor
    step_size: float | Tensor
    num_steps: int
    norm: Norm = "linf"
    reach: float | None = None

    def __post_init__(self) -> None:
        """Raises ContractError for a reach that is not above 0."""
        if self.reach is not None and not 0 < self.reach < math.inf:
            raise ContractError(
                f"Budget(reach={self.reach!r}): a reach is a number of radii above 0.",
                hint="reach=3.0 for images up to three radii away; None for an attack with projection",
            )

    @property
    def limit(self) -> float | Tensor:
        """The largest distance of an image from the clean one: the radius, unless there is a `reach`."""
        return self.eps if self.reach is None else self.reach * self.eps

    def scale(self, factor: float | Tensor, *, step: bool = True) -> "Budget":
        """The same budget with radius (and step, unless `step` is false) times `factor`, a number or (B,)."""
        return replace(
            self, eps=self.eps * factor, step_size=self.step_size * factor if step else self.step_size
        )

    def mixed(self, other: "Budget", share: Tensor) -> "Budget":
        """`share` (B,) times this budget plus (1 - share) times `other`; equal numbers stay numbers."""

        def mix(first: float | Tensor, second: float | Tensor) -> float | Tensor:
            if not isinstance(first, Tensor) and not isinstance(second, Tensor) and first == second:
                return first
            one, two = (
                torch.as_tensor(each, device=share.device).expand_as(share) for each in (first, second)
            )
            return mixed(one, two, share)

        return replace(self, eps=mix(self.eps, other.eps), step_size=mix(self.step_size, other.step_size))


@overload
def per_image(value: Tensor, images: Tensor) -> Tensor: ...
@overload
def per_image(value: float | Tensor, images: Tensor) -> float | Tensor: ...
def per_image(value: float | Tensor, images: Tensor) -> float | Tensor:
    """`value` ready to broadcast with images (B, ...): a number, or (B,) as (B, 1, 1, 1) in their dtype."""
    return column(value.to(images.dtype), images) if isinstance(value, Tensor) else value


def column(values: Tensor, images: Tensor) -> Tensor:
    """`values` (B,) as (B, 1, 1, 1), ready to broadcast with images (B, ...)."""
    return values.view(-1, *[1] * (images.dim() - 1))


def lengths(displacement: Tensor, norm: Norm) -> Tensor:
    """The norm of each displacement (B, C, H, W): (B, 1, 1, 1)."""
    axes = tuple(range(1, displacement.dim()))
    order = torch.inf if norm == "linf" else 2
    return torch.linalg.vector_norm(displacement, order, dim=axes, keepdim=True)


def excess(x: Tensor, x_adv: Tensor, budget: Budget) -> Tensor:
    """Distance of each sample from the ball and from [0, 1]: (B,), at most 0 inside, NaN if not finite."""
    # abs: with a negative class weight (DAFA without a lower bound) pixels move by |w| eps.
    radius: Any = abs(per_image(budget.limit, x))
    distance = lengths(x_adv - x, budget.norm)
    outside = torch.maximum(distance - radius, torch.maximum(-x_adv, x_adv - 1))
    return outside.flatten(1).amax(1)
