"""The shortest way onto a hyperplane inside the unit box, without sorting.

FAB's one geometric problem (Croce and Hein, ICML 2020, arXiv 1907.02044, Sect. 2). All coordinates go
towards the plane together, until each meets the box, so one equation with one unknown remains for each
point: sum_i rate_i min(level, limit_i) = needed. Its left side is concave, rising and piecewise linear.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from fairbench.attacks.budget import Norm

STEPS = 10  # networks trained on digits and on CIFAR-10 needed 1 to 4, rarely 6
NEGLIGIBLE = 1e-8  # a smaller slope moves nothing in "l2", as in AutoAttack's program


def onto_plane(points: Tensor, value: Tensor, normal: Tensor, norm: Norm) -> Tensor:
    """Shortest moves in `norm` to where a linear function is 0: (B, P, n), for `points` (B, P, n) in [0, 1].

    The function has the values `value` (B, P) at the points and the gradient `normal` (B, n) everywhere.
    Where it has no 0 in the box, the moves lead to the corner at which it is smallest in size.
    Coordinates without slope stay.
    """
    if norm == "l2":
        normal = F.hardshrink(normal, NEGLIGIBLE)
    way = -value.sign()[..., None] * normal.sign()[:, None]  # 1, -1, or 0 for no move
    room = torch.addcmul(way.clamp(min=0), way, points, value=-1)
    slope = normal.abs()[:, None]
    if norm == "linf":
        return way * torch.minimum(room, level(slope, room, value.abs()))
    limit = room / slope.clamp(min=NEGLIGIBLE)
    return way * slope * torch.minimum(limit, level(slope.square(), limit, value.abs()))


def level(rate: Tensor, limit: Tensor, needed: Tensor, steps: int = STEPS) -> Tensor:
    """The t >= 0 with sum_i rate_i min(t, limit_i) = needed, or one beyond all limits: (B, P, 1).

    `rate` (B, 1, n), `limit` (B, P, n) and `needed` (B, P) are at least 0. Newton's iteration in a fixed
    number of steps; it comes from below, so if these were too few, it would stop before the plane.
    """
    # From a step to the next the deficit h and the slope g of a concave function obey h'/h + g'/g <= 1, hence
    # h'g' <= hg/4; and while anything is left to do, at least one coordinate more has met its limit.
    found, needed, scratch = torch.zeros_like(needed)[..., None], needed[..., None], torch.empty_like(limit)
    for _ in range(steps):
        # Comparing into numbers, not a mask, and in one buffer: several times faster on a CPU.
        slope = torch.gt(limit, found, out=scratch).mul_(rate).sum(-1, keepdim=True)
        done = torch.minimum(limit, found, out=scratch).mul_(rate).sum(-1, keepdim=True)
        found = found + torch.where(slope > 0, (needed - done) / slope, 0).clamp(min=0)
    return found
