"""FAB-T: the fast adaptive boundary attack towards one class at a time.

Croce and Hein, ICML 2020, arXiv 1907.02044, Alg. 1, in the targeted form and with the constants of
AutoAttack's program (fra31/auto-attack@a392200). It looks for the smallest change rather than for the
largest loss, and draws nothing.
"""

import torch
from torch import Tensor

from fairbench.attacks.budget import Norm, lengths
from fairbench.attacks.hyperplane import onto_plane
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.network import Network
from fairbench.attacks.search import Rows, Search, note

CLEAN_SHARE = 0.1  # at most, of the projected clean image in the next point (alpha_max)
OVERSHOOT = 1.05  # eta: a little beyond the plane
KEPT_WAY = 0.9  # beta: how far from the clean image a point stays after a success
SHORTEST = 1e-8  # the program's floor of a distance
REGROUP = (1, 2, 4, 7, 10, 15, 20, 30, 40, 60, 80)


class Fab(Search):
    """FAB within `eps` (pixel units of [0, 1], in `norm`) towards the class of the row `target`.

    A point counts whatever class it is taken for. A success within `eps` ends an image's search, one
    further out pulls the point back to the clean image, as in the program.

    Two forward passes and one backward pass in each iteration. The point that was checked is the one to
    go on from only where the check failed, and on robust models seven to nine checks in ten succeed,
    outside eps: linearising before that is known would waste more backward passes than it saves
    forward passes.
    """

    def __init__(self, eps: float, norm: Norm = "linf", iterations: int = 100) -> None:
        self.eps = eps
        self.norm = norm
        self.iterations = iterations
        self.regroup = (*(k for k in REGROUP if k < iterations), iterations)
        self.cost = (2 * iterations, iterations)

    def begin(self, network: Network, rows: Rows, draws: ImageDraws) -> None:
        rows["point"] = rows["x"]

    def step(self, network: Network, rows: Rows, k: int) -> None:
        x, y, point = rows["x"], rows["y"], rows["point"]
        logits, value, gradient = network.gradient(point, lambda logits: _lead(logits, rows))
        if k == 0:
            note(rows, x, logits.argmax(1) != y)
        candidate = self._next(x, point, value, gradient)
        fooled = network.logits(candidate).argmax(1) != y
        within = lengths(candidate - x, self.norm).flatten() <= self.eps
        note(rows, candidate, fooled & within)
        kept = torch.where(fooled, KEPT_WAY, 1.0).to(x.dtype)
        rows["point"] = torch.lerp(x, candidate, kept.view(-1, *[1] * (x.dim() - 1)))

    def _next(self, x: Tensor, point: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        """The point beyond the linearised boundary, between the way from `point` and that from `x`."""
        both = torch.stack([point, x], 1).flatten(2)  # (B, 2, n)
        normal = gradient.flatten(1)
        at_clean = value + torch.linalg.vecdot(normal, both[:, 1] - both[:, 0])
        way = onto_plane(both, torch.stack([value, at_clean], 1), normal, self.norm)
        length = lengths(way.flatten(0, 1), self.norm).view(-1, 2).clamp(min=SHORTEST)
        share = (length[:, 0] / length.sum(1)).clamp(max=CLEAN_SHARE)
        from_point, from_clean = torch.add(both, way, alpha=OVERSHOOT).unbind(1)
        return torch.lerp(from_point, from_clean, share[:, None]).clamp_(0, 1).view_as(x)


def _lead(logits: Tensor, rows: Rows) -> Tensor:
    """The target's logit less the label's: (B,); positive beyond the boundary of these two classes."""
    target, label = (logits.gather(1, rows[name][:, None]).squeeze(1) for name in ("target", "y"))
    return target - label
