"""Projected gradient ascent in the Linf or the L2 ball.

One iteration: x <- x + step * direction; project to the ball around x0; clip to [0, 1]. The direction is
sign(gradient) for Linf and gradient / |gradient| for L2; a gradient of 0 moves nothing. The caller decides
the model's mode; nothing here touches its parameters.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from fairbench.attacks.balls import BALLS, Ball
from fairbench.attacks.budget import Budget, per_image
from fairbench.attacks.draws import Draws

Start = Literal["none", "gaussian", "gaussian-clipped", "uniform", "uniform-unclipped"]

GAUSSIAN_SCALE = 0.001  # TRADES (arXiv 1901.08573), official program


def pgd(
    model: nn.Module,
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    budget: Budget,
    start: Start,
    rng: Draws,
    observe: Callable[[int, Tensor, Tensor], Tensor | None] | None = None,
    then: Budget | None = None,
) -> Tensor:
    """Images (B, C, H, W) near `x` that raise `loss`.

    `loss` maps logits (B, C) to values (B,) to be raised; a targeted attack passes the negative of
    the loss it lowers. `observe(k, x_k, logits_k)` sees each iterate before step k = 0..K-1, not the
    last one; it may return who still moves (B,) bool: a stopping rule is an observer. `then` moves a
    second time along the same direction, by its step and into its ball (DAFA's program).

    Starts: "none"; "gaussian", x + 0.001 n, neither clipped nor projected before the first gradient;
    "gaussian-clipped", the same projected and clipped to [0, 1]; "uniform" in the ball and clipped to
    [0, 1]; "uniform-unclipped".
    """
    ball = _ball(x, budget)
    moves = [(ball, per_image(budget.step_size, x))]
    if then is not None:
        moves.append((_ball(x, then), per_image(then.step_size, x)))
    x_adv = _start(ball, start, rng)
    for k in range(budget.num_steps):
        x_adv = x_adv.detach().requires_grad_()
        with torch.enable_grad():
            logits = model(x_adv)
            # The sum, not the mean: a mean can underflow in half precision, and sign(0) = 0.
            (gradient,) = torch.autograd.grad(loss(logits).sum(), x_adv)
        x_adv = x_adv.detach()
        moving = None if observe is None else observe(k, x_adv, logits.detach())
        direction, stepped = ball.steepest(gradient), x_adv
        for inside, step_size in moves:
            stepped = inside.project(stepped + step_size * direction)
        x_adv = stepped if moving is None else torch.where(moving.view(-1, 1, 1, 1), stepped, x_adv)
    return x_adv.detach()


def _ball(x: Tensor, budget: Budget) -> Ball:
    return BALLS[budget.norm](x, budget.eps)


def _start(ball: Ball, start: Start, rng: Draws) -> Tensor:
    x = ball.x
    if start == "gaussian":
        return x + GAUSSIAN_SCALE * rng.normal(x)
    if start == "gaussian-clipped":
        return ball.project(x + GAUSSIAN_SCALE * rng.normal(x))
    if start == "uniform":
        return (x + ball.uniform(rng)).clamp(0, 1)
    if start == "uniform-unclipped":
        return x + ball.uniform(rng)
    return x
