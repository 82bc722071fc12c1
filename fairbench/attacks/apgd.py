"""APGD: gradient ascent with momentum whose step size looks after itself.

Croce and Hein, ICML 2020, arXiv 2003.01690, Alg. 1, with the constants of AutoAttack's program
(fra31/auto-attack@a392200), which the standard version uses twice: on the cross-entropy, and on the
targeted DLR loss for the nine most likely other classes.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fairbench.attacks.balls import BALLS, TINY, Ball
from fairbench.attacks.budget import Norm
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.network import Network
from fairbench.attacks.search import Rows, Search, note

Loss = Literal["ce", "dlr-t"]

FIRST_STEP = 2.0  # times eps
KEPT_DISPLACEMENT = 0.25  # share of the new iterate that goes on as before (1 - alpha of Alg. 1)
ENOUGH_RISES = 0.75  # share of an interval's iterations that raise the loss (rho of Alg. 1)
EARLY = (1, 3, 7, 14)  # most images that fall do so before the first checkpoint


class Apgd(Search):
    """APGD within `eps` (pixel units of [0, 1], in `norm`) on the cross-entropy or the targeted DLR loss.

    Any misclassified iterate counts, the start too, whatever its class and loss; the first is kept.
    "dlr-t" aims at the class of the row `target` and needs four classes.
    """

    def __init__(self, eps: float, norm: Norm = "linf", loss: Loss = "ce", iterations: int = 100) -> None:
        self.eps = eps
        self.norm = norm
        self.loss = loss
        self.iterations = iterations
        self.checkpoints = checkpoints(iterations)
        early = (k for k in EARLY if k < min(self.checkpoints, default=iterations))
        self.regroup = (*early, *self.checkpoints, iterations)
        self.cost = (iterations + 1, iterations)  # nobody asks for the last iterate's gradient

    def begin(self, network: Network, rows: Rows, draws: ImageDraws) -> None:
        x, y = rows["x"], rows["y"]
        ball = self._ball(rows)
        start = (x + ball.surface(draws)).clamp_(0, 1)
        logits, loss, gradient = network.gradient(start, lambda logits: self._loss(logits, rows))
        note(rows, start, logits.argmax(1) != y)
        rows["iterate"] = rows["previous"] = rows["best"] = start  # (B, C, H, W)
        rows["direction"] = rows["best_direction"] = ball.steepest(gradient)
        rows["step_size"] = torch.full_like(loss, FIRST_STEP * self.eps)  # (B,), as all that follow
        rows["best_loss"] = rows["checked_loss"] = loss
        rows["loss"] = torch.zeros_like(loss)  # the program compares the first iterate's loss with 0
        rows["rises"] = torch.zeros_like(y)
        rows["halved"] = torch.ones_like(rows["found"])

    def step(self, network: Network, rows: Rows, k: int) -> None:
        ball = self._ball(rows)
        iterate = self._next(rows, ball, k)
        rows["previous"], rows["iterate"] = rows["iterate"], iterate
        if k + 1 == self.iterations:
            note(rows, iterate, network.logits(iterate).argmax(1) != rows["y"])
            return
        logits, loss, gradient = network.gradient(iterate, lambda logits: self._loss(logits, rows))
        note(rows, iterate, logits.argmax(1) != rows["y"])
        rows["direction"] = ball.steepest(gradient)
        self._remember(rows, loss)
        if k + 1 in self.checkpoints:
            self._check(rows, self.checkpoints[k + 1])

    def _next(self, rows: Rows, ball: Ball, k: int) -> Tensor:
        """The iterate after a step, partly carried on by the last displacement."""
        iterate = rows["iterate"]
        step = torch.addcmul(iterate, _beside(iterate, rows["step_size"]), rows["direction"])
        stepped = ball.project(step)
        if k == 0:  # no displacement yet
            return stepped
        carried_on = torch.lerp(rows["previous"], iterate, 2.0)
        return ball.project(stepped.lerp_(carried_on, KEPT_DISPLACEMENT))

    def _remember(self, rows: Rows, loss: Tensor) -> None:
        """Count rises of the loss, and keep the best point with its direction."""
        better = loss > rows["best_loss"]
        rows["best_loss"] = torch.maximum(rows["best_loss"], loss)
        rows["best"] = _choose(better, rows["iterate"], rows["best"])
        rows["best_direction"] = _choose(better, rows["direction"], rows["best_direction"])
        rows["rises"] = rows["rises"] + (loss > rows["loss"])
        rows["loss"] = loss

    def _check(self, rows: Rows, interval: int) -> None:
        """Where the last `interval` iterations led nowhere: half the step size, back to the best point."""
        rarely = rows["rises"] <= ENOUGH_RISES * interval
        in_vain = ~rows["halved"] & (rows["checked_loss"] >= rows["best_loss"])
        halve = rarely | in_vain
        rows["step_size"] = torch.where(halve, rows["step_size"] / 2, rows["step_size"])
        rows["iterate"] = _choose(halve, rows["best"], rows["iterate"])
        rows["direction"] = _choose(halve, rows["best_direction"], rows["direction"])
        rows["checked_loss"] = rows["best_loss"]
        rows["rises"] = torch.zeros_like(rows["rises"])
        rows["halved"] = halve

    def _ball(self, rows: Rows) -> Ball:
        return BALLS[self.norm](rows["x"], self.eps)

    def _loss(self, logits: Tensor, rows: Rows) -> Tensor:
        if self.loss == "ce":
            return F.cross_entropy(logits, rows["y"], reduction="none")
        return targeted_dlr(logits, rows["y"], rows["target"])


def checkpoints(iterations: int) -> dict[int, int]:
    """After how many iterations the step size is checked, each with the iterations since the last check.

    Intervals shrink from 22 % of the iterations by 3 % down to 6 %. A check after the last iteration
    would change nothing and is left out.
    """
    interval, shrink, shortest = (max(int(share * iterations), 1) for share in (0.22, 0.03, 0.06))
    done, found = interval, {}
    while done < iterations:
        found[done] = interval
        interval = max(interval - shrink, shortest)
        done += interval
    return found


def targeted_dlr(logits: Tensor, label: Tensor, target: Tensor) -> Tensor:
    """(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12), z_(i) the i-th largest logit: (B,); Eq. 5.

    Neither shift nor scale of the logits changes it. At least four classes.
    """
    largest = logits.topk(4, dim=1).values
    aimed, true = (logits.gather(1, each[:, None]).squeeze(1) for each in (target, label))
    return (aimed - true) / (largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2 + TINY)


def _choose(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Rows of `new` where `which` (B,), else of `old`; both finite.

    Weights of 0 and 1 are exact in `lerp`, which is several times faster on a CPU than `where` with a
    mask that is broadcast.
    """
    return torch.lerp(old, new, _beside(old, which))


def _beside(images: Tensor, row: Tensor) -> Tensor:
    """One value per image (B,), ready to combine with images (B, C, H, W)."""
    return row.to(images.dtype).view(-1, *[1] * (images.dim() - 1))
