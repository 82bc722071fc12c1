"""Projection to a hyperplane inside the unit box, without sorting.

The geometric problem of FAB (Croce and Hein, ICML 2020, arXiv 1907.02044, Sect. 2). All coordinates move
towards the plane together, each until it reaches the boundary of the box. So each point has one equation
with one unknown: sum_i rate_i min(level, limit_i) = needed. Its left side is concave, increasing and
piecewise linear.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from fairbench.attacks.budget import Norm

STEPS = 10  # measured on networks trained on digits and CIFAR-10: 1 to 4 needed, rarely 6
NEGLIGIBLE = 1e-8  # in "l2", smaller slopes count as 0, as in AutoAttack's program


def onto_plane(points: Tensor, value: Tensor, normal: Tensor, norm: Norm) -> Tensor:
    """Shortest displacements in `norm` to the zeros of a linear function: (B, P, n).

    Starts at `points` (B, P, n) in [0, 1] and stays in the box. The function has the values `value` (B, P) at
    the points and the gradient `normal` (B, n) everywhere. Where it has no zero in the box, the displacements
    lead to the corner where its absolute value is smallest. Coordinates with slope 0 do not move.
    """
    if norm == "l2":
        normal = F.hardshrink(normal, NEGLIGIBLE)
    sign = -value.sign()[..., None] * normal.sign()[:, None]  # 1, -1, or 0 for no move
    room = torch.addcmul(sign.clamp(min=0), sign, points, value=-1)  # distance to the boundary of the box
    slope = normal.abs()[:, None]
    if norm == "linf":
        return sign * torch.minimum(room, level(slope, room, value.abs()))
    limit = room / slope.clamp(min=NEGLIGIBLE)
    return sign * slope * torch.minimum(limit, level(slope.square(), limit, value.abs()))


def level(rate: Tensor, limit: Tensor, needed: Tensor, steps: int = STEPS) -> Tensor:
    """The t >= 0 with sum_i rate_i min(t, limit_i) = needed, or a t beyond all limits: (B, P, 1).

    `rate` (B, 1, n), `limit` (B, P, n) and `needed` (B, P) are at least 0. Newton's iteration with a fixed
    number of steps; it converges from below, so with too few steps the result would be too small.
    """
    # From one step to the next, the deficit h and the slope g of a concave function satisfy h'/h + g'/g <= 1,
    # hence h'g' <= hg/4; and in each step with h > 0, at least one more coordinate has reached its limit.
    t, needed, buffer = torch.zeros_like(needed)[..., None], needed[..., None], torch.empty_like(limit)
    for _ in range(steps):
        # Writing the comparison as numbers into one buffer, not as a mask, is several times faster on a CPU.
        slope = torch.gt(limit, t, out=buffer).mul_(rate).sum(-1, keepdim=True)
        reached = torch.minimum(limit, t, out=buffer).mul_(rate).sum(-1, keepdim=True)
        t = t + torch.where(slope > 0, (needed - reached) / slope, 0).clamp(min=0)
    return t
