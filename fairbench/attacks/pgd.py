"""Projected gradient ascent in the Linf ball.

One iteration: x <- x + step * sign(gradient); project to [x0 - eps, x0 + eps]; clip to [0, 1].
`sign(0) = 0`. The caller decides the model's mode; nothing here touches its parameters.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

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
    second time along the same gradient sign, by its step and into its ball (DAFA's program).

    Starts: "none"; "gaussian", x + 0.001 n, neither clipped nor projected before the first gradient;
    "gaussian-clipped", the same projected and clipped to [0, 1]; "uniform" in the ball and clipped to
    [0, 1]; "uniform-unclipped".
    """
    moves = [_move(x, each) for each in (budget, then) if each is not None]
    x_adv = _start(x, budget, start, rng)
    for k in range(budget.num_steps):
        x_adv = x_adv.detach().requires_grad_()
        with torch.enable_grad():
            logits = model(x_adv)
            # The sum, not the mean: a mean can underflow in half precision, and sign(0) = 0.
            (gradient,) = torch.autograd.grad(loss(logits).sum(), x_adv)
        x_adv = x_adv.detach()
        moving = None if observe is None else observe(k, x_adv, logits.detach())
        sign, stepped = gradient.sign(), x_adv
        for step_size, lower, upper in moves:
            stepped = torch.clamp(stepped + step_size * sign, lower, upper)
        x_adv = stepped if moving is None else torch.where(moving.view(-1, 1, 1, 1), stepped, x_adv)
    return x_adv.detach()


def _move(x: Tensor, budget: Budget) -> tuple[float | Tensor, Tensor, Tensor]:
    """(step size, lowest, highest image): clipping the bounds equals projecting and then clipping."""
    eps = per_image(budget.eps, x)
    return per_image(budget.step_size, x), (x - eps).clamp(0, 1), (x + eps).clamp(0, 1)


def _start(x: Tensor, budget: Budget, start: Start, rng: Draws) -> Tensor:
    if start == "gaussian":
        return x + GAUSSIAN_SCALE * rng.normal(x)
    if start == "gaussian-clipped":
        _, lower, upper = _move(x, budget)
        return torch.clamp(x + GAUSSIAN_SCALE * rng.normal(x), lower, upper)
    if start == "uniform":
        return (x + (2 * rng.uniform(x) - 1) * per_image(budget.eps, x)).clamp(0, 1)
    if start == "uniform-unclipped":
        return x + (2 * rng.uniform(x) - 1) * per_image(budget.eps, x)
    return x
