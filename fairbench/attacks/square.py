"""Square: a random search that uses only logits, no gradients.

Andriushchenko et al., ECCV 2020, arXiv 1912.00049, Alg. 1 to 3, with the constants of AutoAttack's program
(fra31/auto-attack@a392200). Each query changes the image in a window; the change stays if the margin falls.
The windows depend on the seed only and are the same for all images; other draws are keyed by image.
"""

from bisect import bisect_left

import torch
from torch import Tensor

from fairbench.attacks.balls import TINY
from fairbench.attacks.budget import Norm, lengths, per_image
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.margin import margin
from fairbench.attacks.network import Network
from fairbench.attacks.search import Rows, Search
from fairbench.core.seeds import derive_seed

Window = tuple[slice, ...]

FIRST_SHARE = 0.8  # share of the image's area in the first windows (p)
HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries, whatever the number of all queries
TILES = 5  # tiles along the height at the start of the L2 search
REGROUP = (1, 3, 10, 30)


class Square(Search):
    """Square within `eps` (pixel units of [0, 1], in `norm`) on the margin z_y - max z_other.

    One forward pass for the start and for each query. The row `x_adv` holds the best point of an image; after
    a success it does not change.
    """

    def __init__(self, eps: float, norm: Norm = "linf", queries: int = 5000) -> None:
        self.eps = eps
        self.norm = norm
        self.iterations = queries
        self.regroup = (*(k for k in (*REGROUP, *range(100, queries, 100)) if k < queries), queries)
        self.cost = (queries + 1, 0)

    def begin(self, network: Network, rows: Rows, draws: ImageDraws) -> None:
        x, queries = rows["x"], self.iterations
        shared = torch.Generator().manual_seed(derive_seed(draws.seed, draws.purpose, "windows"))
        self.offsets = torch.rand(
            queries, 4, generator=shared
        ).tolist()  # top and left of two windows, as shares
        if self.norm == "linf":
            self.signs = _signs(torch.rand(queries, x.shape[1], 1, 1, generator=shared)).to(x)
            move = _signs(draws.of("stripes").uniform(x[:, :, :1])) * self.eps
        else:
            self.turned = (torch.rand(queries, generator=shared) < 0.5).tolist()
            self.bumps = {
                side: bump(side).to(x) for side in {self.side(k, *x.shape[2:]) for k in range(queries)}
            }
            like = x.new_empty(len(x), queries, x.shape[1], dtype=torch.float32)
            rows["signs"] = _signs(draws.of("signs").uniform(like)).to(torch.int8)  # (B, queries, ch)
            move = self._tiles(x, draws.of("tiles"), shared)
        start = (x + move).clamp_(0, 1)
        margin, fooled = _evaluate(network, start, rows["y"])
        rows["x_adv"], rows["margin"], rows["success"] = start, margin, fooled

    def step(self, network: Network, rows: Rows, k: int) -> None:
        window, change = self._square(rows, k) if self.norm == "linf" else self._bumps(rows, k)
        part = rows["x_adv"][window]
        before = part.clone()
        part.copy_(change)
        margin, fooled = _evaluate(network, rows["x_adv"], rows["y"])
        better = (fooled | (margin < rows["margin"])) & ~rows["success"]
        # `lerp` with weights 0 and 1 is exact, and faster than `where` with a broadcast mask.
        part.copy_(before.lerp_(change, per_image(better, change)))
        rows["margin"] = torch.where(better, margin, rows["margin"])
        rows["success"] = rows["success"] | fooled

    def side(self, k: int, height: int, width: int) -> int:
        """The side of the windows of query k = 0.. in pixels."""
        share = FIRST_SHARE / 2 ** bisect_left(HALVED_AFTER, k)
        side = round((share * height * width) ** 0.5)
        side = max(side, 1) if self.norm == "linf" else max(side, 3) // 2 * 2 + 1
        return min(side, height, width)

    def _windows(self, k: int, x: Tensor) -> tuple[Window, Window]:
        """The two windows of query k. As in the program, offsets never take their largest value."""
        height, width = x.shape[2:]
        side = self.side(k, height, width)
        top, left, other_top, other_left = (
            int(offset * (length - side))
            for offset, length in zip(self.offsets[k], (height, width) * 2, strict=True)
        )
        return _window(top, left, side), _window(other_top, other_left, side)

    def _square(self, rows: Rows, k: int) -> tuple[Window, Tensor]:
        """A window, and the new pixels in it: the clean ones plus or minus `eps` per channel."""
        window, _ = self._windows(k, rows["x"])
        # The program moves the best image by 2 eps and projects, which ends in the same corner.
        return window, torch.add(rows["x"][window], self.signs[k], alpha=self.eps).clamp_(0, 1)

    def _bumps(self, rows: Rows, k: int) -> tuple[Window, Tensor]:
        """The whole image, with the energy of one window, and all unused energy, moved to another window."""
        x = rows["x"]
        move = rows["x_adv"] - x
        window, emptied = self._windows(k, x)
        unused = (self.eps**2 - lengths(move, "l2").square()).clamp(min=0) / x.shape[1]
        here = move[window].clone()
        length = _channel_lengths(here)
        move[window] = 0
        energy = unused + length.square() + _channel_lengths(move[emptied]).square()
        move[emptied] = 0
        pattern = self.bumps[here.shape[-1]]
        pattern = pattern.mT if self.turned[k] else pattern
        shape = rows["signs"][:, k, :, None, None] * pattern + here / (length + TINY)
        move[window] = shape * (energy.sqrt() / (_channel_lengths(shape) + TINY))
        return (slice(None),), torch.addcmul(x, move, self.eps / (lengths(move, "l2") + TINY)).clamp_(0, 1)

    def _tiles(self, x: Tensor, draws: ImageDraws, shared: torch.Generator) -> Tensor:
        """The start of the L2 search: a displacement of adjacent bumps, of total length `eps`."""
        height, width = x.shape[2:]
        side = max(height // TILES, 1)
        first = max(height - side * TILES, 0) // 2
        corners = [
            (top, left)
            for top in range(first, height - side + 1, side)
            for left in range(first, width - side + 1, side)
        ]
        turned = (torch.rand(len(corners), generator=shared) < 0.5).tolist()
        signs = _signs(draws.uniform(x.new_empty(len(x), len(corners), x.shape[1], 1, 1)))
        move, pattern = torch.zeros_like(x), bump(side).to(x)
        for n, corner in enumerate(corners):
            move[_window(*corner, side)] = signs[:, n] * (pattern.mT if turned[n] else pattern)
        return move * (self.eps / (lengths(move, "l2") + TINY))


def bump(side: int) -> Tensor:
    """A positive bump above a negative bump, of L2 length 1 together: (side, side) in float64; Alg. 3."""
    upper = side // 2
    pattern = torch.cat([_hill(upper, side), -_hill(side - upper, side)])
    return pattern / pattern.norm()


def _hill(height: int, width: int) -> Tensor:
    """Square rings around the centre, L2 length 1: a pixel at distance r has sum_{i > r} 1 / i^2."""
    rings = torch.arange(1, max(height, width) // 2 + 2, dtype=torch.float64) ** -2
    profile = rings.flip(0).cumsum(0).flip(0)
    rows, columns = ((torch.arange(length) - length // 2).abs() for length in (height, width))
    hill = profile[torch.maximum(rows[:, None], columns)]
    return hill / hill.norm()


def _evaluate(network: Network, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """z_y - max z_other, and whether another class is predicted: (B,) each."""
    logits = network.logits(x)
    return -margin(logits, label), logits.argmax(1) != label


def _signs(uniform: Tensor) -> Tensor:
    """1 or -1 from values uniform in [0, 1)."""
    return torch.where(uniform < 0.5, -1.0, 1.0).to(uniform.dtype)


def _window(top: int, left: int, side: int) -> Window:
    return slice(None), slice(None), slice(top, top + side), slice(left, left + side)


def _channel_lengths(displacement: Tensor) -> Tensor:
    """L2 length in each channel: (B, ch, 1, 1)."""
    return torch.linalg.vector_norm(displacement, dim=(2, 3), keepdim=True)
