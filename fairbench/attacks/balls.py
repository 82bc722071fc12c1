"""The balls that adversaries stay in: where to start, which way is up, and the way back inside.

A ball is given by its images (B, C, H, W) in [0, 1] and a radius in pixel units, a number or one per
image (B,); "inside" always means inside [0, 1] as well.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from fairbench.attacks.budget import Norm, lengths, per_image
from fairbench.attacks.draws import Draws

TINY = 1e-12  # AutoAttack's program; nothing has no direction


class Ball(ABC):
    """All images of [0, 1] within `eps` of `x`."""

    def __init__(self, x: Tensor, eps: float | Tensor) -> None:
        self.x = x
        self.eps = per_image(eps, x)

    @abstractmethod
    def project(self, images: Tensor) -> Tensor:
        """Images pulled into the ball, then clipped to [0, 1]; those inside stay where they are."""

    @abstractmethod
    def steepest(self, gradient: Tensor) -> Tensor:
        """The step of length 1 that raises a value with this gradient most; 0 where the gradient is 0."""

    @abstractmethod
    def uniform(self, draws: Draws) -> Tensor:
        """A displacement from `x`, uniform in the ball; with it an image may leave [0, 1]."""

    @abstractmethod
    def surface(self, draws: Draws) -> Tensor:
        """A displacement from `x` of exactly the radius in a random direction; may leave [0, 1]."""


class LinfBall(Ball):
    """No pixel differs by more than the radius."""

    def __init__(self, x: Tensor, eps: float | Tensor) -> None:
        super().__init__(x, eps)
        # Clipping to clipped bounds equals projecting and then clipping, in one pass.
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
    """The root of the sum of all squared differences of an image is at most the radius."""

    def project(self, images: Tensor) -> Tensor:
        away = images - self.x
        length = lengths(away, "l2")
        shrink = length.clamp(max=self.eps) / (length + TINY)
        # Clipping moves pixels towards x, which is in [0, 1]: it cannot lead out of the ball again.
        return torch.addcmul(self.x, away, shrink).clamp_(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0)  # one such value would spread over the whole image
        return gradient / (lengths(gradient, "l2") + TINY)

    def uniform(self, draws: Draws) -> Tensor:
        # A point of the sphere in n + 2 dimensions without its last two coordinates is uniform in the
        # n-ball (Archimedes' hat-box theorem; Voelker et al., 2017): one draw, and no n-th root.
        n = self.x[0].numel()
        noise = draws.normal(self.x.new_empty(len(self.x), n + 2))
        point = noise[:, :n] / noise.norm(dim=1, keepdim=True)
        return point.view_as(self.x) * self.eps

    def surface(self, draws: Draws) -> Tensor:
        return self.steepest(draws.normal(self.x)) * self.eps


BALLS: dict[Norm, type[Ball]] = {"linf": LinfBall, "l2": L2Ball}
