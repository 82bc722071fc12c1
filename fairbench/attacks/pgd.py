"""PGD: projected gradient ascent in the Linf or the L2 ball.

One iteration: x <- x + step * direction; project to the ball around x0; clip to [0, 1]. The direction is
sign(gradient) for Linf and gradient / |gradient| for L2, and 0 for a gradient of 0. The caller sets the mode
of the model; its parameters are not changed here.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from fairbench.attacks.balls import BALLS, Ball
from fairbench.attacks.budget import Budget, column, per_image
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
    """Adversarial images (B, C, H, W) near `x` that maximise `loss`.

    `loss` maps logits (B, C) to values (B,) to be maximised; a targeted attack passes the negative of
    the loss that it minimises. `observe(k, x_k, logits_k)` is called with each iterate before step
    k = 0..K-1, not with the last one. It may return a mask (B,) bool of the images that still move, which
    implements early stopping. `then` adds a second move along the same direction, by its own step size and
    into its own ball (DAFA's program).

    Starts: "none"; "gaussian", x + 0.001 n, neither clipped nor projected before the first gradient;
    "gaussian-clipped", the same, projected and clipped to [0, 1]; "uniform", uniform in the ball and clipped
    to [0, 1]; "uniform-unclipped", the same without clipping.

    A budget with a `reach` replaces the projection after each step by clipping to [0, 1].
    """
    ball = _ball(x, budget)
    moves = [(_projection(ball, budget), per_image(budget.step_size, x))]
    if then is not None:
        moves.append((_projection(_ball(x, then), then), per_image(then.step_size, x)))
    x_adv = _start(ball, start, rng)
    for k in range(budget.num_steps):
        x_adv = x_adv.detach().requires_grad_()
        with torch.enable_grad():
            logits = model(x_adv)
            # The sum, not the mean: the gradient of a mean can underflow in half precision, and sign(0) = 0.
            (gradient,) = torch.autograd.grad(loss(logits).sum(), x_adv)
        x_adv = x_adv.detach()
        moving = None if observe is None else observe(k, x_adv, logits.detach())
        direction, stepped = ball.steepest(gradient), x_adv
        for project, step_size in moves:
            stepped = project(stepped + step_size * direction)
        x_adv = stepped if moving is None else torch.where(column(moving, x_adv), stepped, x_adv)
    return x_adv.detach()


def _ball(x: Tensor, budget: Budget) -> Ball:
    return BALLS[budget.norm](x, budget.eps)


def _projection(ball: Ball, budget: Budget) -> Callable[[Tensor], Tensor]:
    """What is done to the images after a step."""
    return ball.project if budget.reach is None else lambda images: images.clamp(0, 1)


def _start(ball: Ball, start: Start, rng: Draws) -> Tensor:
    """The first iterate (B, C, H, W)."""
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
