"""APGD: gradient ascent with momentum and an automatic step size.

Croce and Hein, ICML 2020, arXiv 2003.01690, Alg. 1, with the constants of AutoAttack's program
(fra31/auto-attack@a392200). The standard version uses it twice: on the cross-entropy, and on the targeted
DLR loss for the nine most likely wrong classes.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from fairbench.attacks.balls import BALLS, TINY, Ball
from fairbench.attacks.budget import Norm, per_image
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.margin import gather_class
from fairbench.attacks.network import Network
from fairbench.attacks.search import Rows, Search, record_success

Loss = Literal["ce", "dlr-t"]

FIRST_STEP = 2.0  # times eps
KEPT_DISPLACEMENT = 0.25  # weight of the previous displacement in an iterate (1 - alpha of Alg. 1)
ENOUGH_RISES = 0.75  # share of an interval's iterations that must raise the loss (rho of Alg. 1)
EARLY = (1, 3, 7, 14)  # most broken images are broken before the first checkpoint


class Apgd(Search):
    """APGD within `eps` (pixel units of [0, 1], in `norm`) on the cross-entropy or the targeted DLR loss.

    Any misclassified iterate is a success, also the start, whatever its class and loss; the first is kept.
    "dlr-t" targets the class of the row `target` and needs four classes.
    """

    def __init__(self, eps: float, norm: Norm = "linf", loss: Loss = "ce", iterations: int = 100) -> None:
        self.eps = eps
        self.norm = norm
        self.loss = loss
        self.iterations = iterations
        self.checkpoints = checkpoints(iterations)
        early = (k for k in EARLY if k < min(self.checkpoints, default=iterations))
        self.regroup = (*early, *self.checkpoints, iterations)
        self.cost = (iterations + 1, iterations)  # the last iterate needs no gradient

    def begin(self, network: Network, rows: Rows, draws: ImageDraws) -> None:
        x, y = rows["x"], rows["y"]
        ball = self._ball(rows)
        start = (x + ball.surface(draws)).clamp_(0, 1)
        logits, loss, gradient = network.gradient(start, lambda logits: self._loss(logits, rows))
        record_success(rows, start, logits.argmax(1) != y)
        rows["iterate"] = rows["previous"] = rows["best"] = start  # (B, C, H, W)
        rows["direction"] = rows["best_direction"] = ball.steepest(gradient)
        rows["step_size"] = torch.full_like(loss, FIRST_STEP * self.eps)  # (B,), as all that follow
        rows["best_loss"] = rows["checked_loss"] = loss
        rows["loss"] = torch.zeros_like(loss)  # the program compares the first iterate's loss with 0
        rows["rises"] = torch.zeros_like(y)
        rows["halved"] = torch.ones_like(rows["success"])

    def step(self, network: Network, rows: Rows, k: int) -> None:
        ball = self._ball(rows)
        iterate = self._next(rows, ball, k)
        rows["previous"], rows["iterate"] = rows["iterate"], iterate
        if k + 1 == self.iterations:
            record_success(rows, iterate, network.logits(iterate).argmax(1) != rows["y"])
            return
        logits, loss, gradient = network.gradient(iterate, lambda logits: self._loss(logits, rows))
        record_success(rows, iterate, logits.argmax(1) != rows["y"])
        rows["direction"] = ball.steepest(gradient)
        self._record(rows, loss)
        if k + 1 in self.checkpoints:
            self._check(rows, self.checkpoints[k + 1])

    def _next(self, rows: Rows, ball: Ball, k: int) -> Tensor:
        """The iterate after a gradient step combined with the previous displacement (momentum)."""
        iterate = rows["iterate"]
        step = torch.addcmul(iterate, per_image(rows["step_size"], iterate), rows["direction"])
        stepped = ball.project(step)
        if k == 0:  # no displacement yet
            return stepped
        extrapolated = torch.lerp(rows["previous"], iterate, 2.0)
        return ball.project(stepped.lerp_(extrapolated, KEPT_DISPLACEMENT))

    def _record(self, rows: Rows, loss: Tensor) -> None:
        """Count increases of the loss, and keep the best point with its direction."""
        better = loss > rows["best_loss"]
        rows["best_loss"] = torch.maximum(rows["best_loss"], loss)
        rows["best"] = _choose(better, rows["iterate"], rows["best"])
        rows["best_direction"] = _choose(better, rows["direction"], rows["best_direction"])
        rows["rises"] = rows["rises"] + (loss > rows["loss"])
        rows["loss"] = loss

    def _check(self, rows: Rows, interval: int) -> None:
        """Where the last `interval` iterations brought little, halve the step and go to the best point."""
        few_rises = rows["rises"] <= ENOUGH_RISES * interval
        no_new_best = ~rows["halved"] & (rows["checked_loss"] >= rows["best_loss"])
        halve = few_rises | no_new_best
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
    """Numbers of iterations after which the step size is checked; values: iterations since the last check.

    Intervals shrink from 22 % of the iterations, by 3 % each time, to 6 %. A check after the last iteration
    would change nothing and is left out.
    """
    interval, shrink, shortest = (max(int(share * iterations), 1) for share in (0.22, 0.03, 0.06))
    done, intervals = interval, {}
    while done < iterations:
        intervals[done] = interval
        interval = max(interval - shrink, shortest)
        done += interval
    return intervals


def targeted_dlr(logits: Tensor, label: Tensor, target: Tensor) -> Tensor:
    """(z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2 + 1e-12), z_(i) the i-th largest logit: (B,); Eq. 5.

    Invariant to shift and scale of the logits. Needs at least four classes.
    """
    largest = logits.topk(4, dim=1).values
    target_logit, label_logit = gather_class(logits, target), gather_class(logits, label)
    return (target_logit - label_logit) / (largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2 + TINY)


def _choose(which: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Rows of `new` where `which` (B,) is true, else of `old`; both finite.

    `lerp` with weights 0 and 1 is exact, and several times faster on a CPU than `where` with a mask that is
    broadcast.
    """
    return torch.lerp(old, new, per_image(which, old))
