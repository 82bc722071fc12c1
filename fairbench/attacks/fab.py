"""FAB-T: the fast adaptive boundary attack towards one class at a time.

Croce and Hein, ICML 2020, arXiv 1907.02044, Alg. 1, in the targeted form and with the constants of
AutoAttack's program (fra31/auto-attack@a392200). It minimises the size of the perturbation instead of
maximising a loss, and uses no random numbers.
"""

import torch
from torch import Tensor

from fairbench.attacks.budget import Norm, lengths, per_image
from fairbench.attacks.hyperplane import onto_plane
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.margin import gather_class
from fairbench.attacks.network import Network
from fairbench.attacks.search import Rows, Search, record_success

CLEAN_SHARE = 0.1  # largest weight of the projected clean image in the next point (alpha_max)
OVERSHOOT = 1.05  # eta: steps go slightly beyond the plane
BACKWARD_SHARE = 0.9  # beta: share of the distance from the clean image that is kept after a success
SHORTEST = 1e-8  # the program's smallest distance
REGROUP = (1, 2, 4, 7, 10, 15, 20, 30, 40, 60, 80)


class Fab(Search):
    """FAB within `eps` (pixel units of [0, 1], in `norm`) towards the class of the row `target`.

    A misclassified point counts whatever its class. One within `eps` ends the search of an image; one
    further away moves the point back towards the clean image, as in the program.

    Each iteration has two forward passes and one backward pass. Using the forward pass of the check for the
    next linearisation too would not pay: on robust models, 70 to 90 % of the checks find a misclassified
    point outside eps. The search does not continue from there, so its backward pass would be wasted.
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
        logits, value, gradient = network.gradient(point, lambda logits: _logit_difference(logits, rows))
        if k == 0:
            record_success(rows, x, logits.argmax(1) != y)
        candidate = self._next(x, point, value, gradient)
        fooled = network.logits(candidate).argmax(1) != y
        within = lengths(candidate - x, self.norm).flatten() <= self.eps
        record_success(rows, candidate, fooled & within)
        rows["point"] = torch.lerp(x, candidate, per_image(torch.where(fooled, BACKWARD_SHARE, 1.0), x))

    def _next(self, x: Tensor, point: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        """The next point beyond the linearised boundary: a mean of the steps from `point` and from `x`."""
        both = torch.stack([point, x], 1).flatten(2)  # (B, 2, n)
        normal = gradient.flatten(1)
        at_clean = value + torch.linalg.vecdot(normal, both[:, 1] - both[:, 0])
        move = onto_plane(both, torch.stack([value, at_clean], 1), normal, self.norm)
        length = lengths(move.flatten(0, 1), self.norm).view(-1, 2).clamp(min=SHORTEST)
        share = (length[:, 0] / length.sum(1)).clamp(max=CLEAN_SHARE)
        from_point, from_clean = torch.add(both, move, alpha=OVERSHOOT).unbind(1)
        return torch.lerp(from_point, from_clean, share[:, None]).clamp_(0, 1).view_as(x)


def _logit_difference(logits: Tensor, rows: Rows) -> Tensor:
    """The logit of the target minus that of the label: (B,); positive beyond their decision boundary."""
    return gather_class(logits, rows["target"]) - gather_class(logits, rows["y"])
