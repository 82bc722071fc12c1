"""Norm balls: random starts, steepest directions and projections.

A ball is given by its centres, images (B, C, H, W) in [0, 1], and a radius in pixel units, a number or one
per image (B,). Being inside always includes being inside [0, 1].
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from fairbench.attacks.budget import Norm, lengths, per_image
from fairbench.attacks.draws import Draws

TINY = 1e-12  # added to lengths before a division, as in AutoAttack's program


class Ball(ABC):
    """All images of [0, 1] within `eps` of `x`."""

    def __init__(self, x: Tensor, eps: float | Tensor) -> None:
        self.x = x
        self.eps = per_image(eps, x)

    @abstractmethod
    def project(self, images: Tensor) -> Tensor:
        """Images projected to the ball, then clipped to [0, 1]; images inside are unchanged."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """The steepest ascent direction, of length 1 in the norm; 0 where the gradient is 0."""

    @abstractmethod
    def uniform(self, draws: Draws) -> Tensor:
        """A displacement from `x`, uniform in the ball; may lead out of [0, 1]."""

    @abstractmethod
    def surface(self, draws: Draws) -> Tensor:
        """A displacement from `x` in a random direction, as long as the radius; may lead out of [0, 1]."""


class LinfBall(Ball):
    """Images that differ from `x` by at most the radius in each pixel."""

    def __init__(self, x: Tensor, eps: float | Tensor) -> None:
        super().__init__(x, eps)
        # Clamping to clipped bounds equals projecting and then clipping, but is one operation.
        self.lower, self.upper = (x - self.eps).clamp_(0, 1), (x + self.eps).clamp_(0, 1)

    def project(self, images: Tensor) -> Tensor:
        return torch.clamp(images, self.lower, self.upper)

    def steepest(self, gradient: Tensor) -> Tensor:
        return gradient.sign()

    def uniform(self, draws: Draws) -> Tensor:
        return (2 * draws.uniform(self.x) - 1) * self.eps

    def surface(self, draws: Draws) -> Tensor:
        noise = 2 * draws.uniform(self.x) - 1
        return noise * (self.eps / (lengths(noise, "linf") + TINY))


class L2Ball(Ball):
    """Images whose Euclidean distance from `x` is at most the radius."""

    def project(self, images: Tensor) -> Tensor:
        displacement = images - self.x
        length = lengths(displacement, "l2")
        shrink = length.clamp(max=self.eps) / (length + TINY)
        # Clipping moves pixels towards x, which is in [0, 1], so the result stays in the ball.
        return torch.addcmul(self.x, displacement, shrink).clamp_(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0)  # else the norm spreads one such value over the image
        return gradient / (lengths(gradient, "l2") + TINY)

    def uniform(self, draws: Draws) -> Tensor:
        # The first n coordinates of a uniform point on the sphere in n + 2 dimensions are uniform in the
        # n-ball (Archimedes' hat-box theorem; Voelker et al., 2017). This needs one draw and no n-th root.
        n = self.x[0].numel()
        noise = draws.normal(self.x.new_empty(len(self.x), n + 2))
        point = noise[:, :n] / noise.norm(dim=1, keepdim=True)
        return point.view_as(self.x) * self.eps

    def surface(self, draws: Draws) -> Tensor:
        return self.steepest(draws.normal(self.x)) * self.eps


BALLS: dict[Norm, type[Ball]] = {"linf": LinfBall, "l2": L2Ball}
