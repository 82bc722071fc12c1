"""A3, Adaptive Auto Attack: better starts, and effort only for the images that look breakable.

Liu et al., CVPR 2022, arXiv 2203.05154; constants from the authors' program
(liuye6666/adaptive_auto_attack@c3650cd). Thirteen rounds of restarts climb first a direction in logit
space, whose bias is learnt from what fell before (adaptive direction initialisation), then the margin; from
round 3 on only the images with the best margins are attacked (online statistics-based discarding).

Where this differs from the program:
- Draws are keyed by image and restart. The program draws the true class's weight once for a batch, here
  each image has its own.
- Iterates are judged by the forward pass of their gradient: K + 1 forward passes for K steps, not
  2 K + 1. So the start is judged too, and fallen images leave at a few fixed iterations, not at each.
- Classes are ranked by a full sort without the true class; the program's partial sort may leave gaps.
- Who fell in the start steps is counted; in the program, a reused loop counter loses most of them.
- Sums over fallen images use any number of classes (the program counts ranks from 10), weights do not
  shrink below ten classes, and the ImageNet branch is not taken.
- The choice of images is sorted by margin, then position: ties do not enlarge it. Its minimum of 100
  images holds from 1,000 images on.
- The program's bound of 1,000 gradients per image is left out; it can only bind where the minimum does.
- L2 starts are uniform in the ball; the program's leave it and return with the first step.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from fairbench.attacks.a3_plan import (
    FEW,
    MIN_IMAGES,
    MIN_IMAGES_FROM,
    NUM_ROUNDS,
    Lean,
    Learnt,
    count_chosen,
    count_rivals,
    plan_lean,
    plan_round,
)
from fairbench.attacks.balls import BALLS
from fairbench.attacks.budget import Norm
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.margin import margin, of_class, other_classes
from fairbench.attacks.network import Network
from fairbench.attacks.search import Findings, Rows, Search, note


class RunSearch(Protocol):
    """Runs a search on the images at data-set positions `index` (n,), CPU, ascending, and says who fell.

    `key` ("ranking", or "3.1" for the first restart of round 3) names this call and the purpose of its
    draws; under it the findings may be stored and, when the same call comes again, returned. `target` (n,)
    and `keep` as for `run_search`. An image that is not in `found` counts as robust and may be attacked
    again; `found` and the rows are on one device.
    """

    def __call__(
        self, search: Search, index: Tensor, key: str, *, target: Tensor | None, keep: tuple[str, ...]
    ) -> Findings: ...


def a3(
    attack: RunSearch,
    index: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    num_classes: int,
    num_images: int,
    min_images: int | None = None,
) -> Tensor:
    """Attack the images at positions `index` (n,), CPU; returns the positions of those still robust.

    `index` holds the images, of `num_images` in all, that the model classifies correctly. A restart
    attacks at least `min_images` (default: 100, in a set of under 1,000 images 1). All decisions follow
    from the findings, so the same findings lead to the same calls: whoever stores them can resume.
    """
    if min_images is None:
        min_images = MIN_IMAGES if num_images >= MIN_IMAGES_FROM else 1
    ranking = Ranking(eps, norm, count_rivals(num_classes))
    ranked = attack(ranking, index, "ranking", target=None, keep=("rival",))
    robust = ~ranked.found.cpu()
    best = torch.full((len(index),), -math.inf, dtype=torch.float64)
    learnt = Learnt()
    restart = 0
    for number in range(NUM_ROUNDS):
        if number == 1:
            learnt.robust = int(robust.sum())
        plan = plan_round(number, learnt, few=int(robust.sum()) < FEW * num_images)
        lean = plan_lean(number, learnt, num_classes)
        search = Restart(eps, norm, num_classes, plan.start_steps, plan.steps, lean)
        for again in range(plan.restarts):
            if not robust.any():
                return index[robust]
            chosen = choose(best, robust, plan.share, min_images)
            rivals = ranked.rows["rival"].cpu()[chosen]
            findings = attack(
                search,
                index[chosen],
                f"{number}.{again + 1}",
                target=None if lean is None else rivals[:, (restart - 1) % lean.cycle],
                keep=("best", "in_start", "own_weight", "reached_weight"),
            )
            restart += 1
            robust[chosen] = ~findings.found.cpu()
            best[chosen] = torch.maximum(best[chosen], findings.rows["best"].cpu().double())
            _learn(learnt, number, findings)
    return index[robust]


def _learn(learnt: Learnt, number: int, findings: Findings) -> None:
    if number == 0:
        return  # nobody climbed a direction
    learnt.in_start += int((findings.found & findings.rows["in_start"]).sum())
    if number == 1:
        own, reached = (
            findings.rows[name][findings.found].double() for name in ("own_weight", "reached_weight")
        )
        learnt.own_pull += float(own.sum())
        learnt.reached_pull += float(reached.sum())


def choose(best: Tensor, robust: Tensor, share: float, min_images: int) -> Tensor:
    """Which of the `robust` (n,) to attack: the `share` with the highest margins `best` (n,), in order."""
    places = robust.nonzero().flatten()
    order = best[places].argsort(descending=True, stable=True)
    count = count_chosen(len(places), share, min_images)
    return places[order[:count]].sort().values


class Ranking(Search):
    """One pass on noise of plus or minus eps (L2: on the image) ranks the other classes by their logits.

    Row `rival` (B, R): the `num_rivals` highest, best first.
    """

    iterations = 1
    regroup = (1,)
    cost = (1, 0)

    def __init__(self, eps: float, norm: Norm, num_rivals: int) -> None:
        self.eps = eps
        self.norm = norm
        self.num_rivals = num_rivals

    def begin(self, network: Network, rows: Rows, draws: ImageDraws) -> None:
        x = rows["x"]
        rows["iterate"] = x
        if self.norm == "linf":
            noise = torch.where(draws.uniform(x) < 0.5, -self.eps, self.eps)
            rows["iterate"] = BALLS["linf"](x, self.eps).project(x + noise)
        rows["rival"] = rows["y"].new_zeros(len(x), self.num_rivals)

    def step(self, network: Network, rows: Rows, k: int) -> None:
        logits = network.logits(rows["iterate"])
        note(rows, rows["iterate"], logits.argmax(1) != rows["y"])
        rows["rival"] = other_classes(logits, rows["y"], self.num_rivals)


class Restart(Search):
    """From noise, `start_steps` steps of size eps up a direction in logit space, then `steps` up the margin.

    Weights of the direction are uniform in [-1, 1] but for the `lean` towards the class of row `target`.
    Rows, each (B,): `best` margin; `in_start`, found by a point of the climb up the direction;
    `own_weight` and `reached_weight`, the direction's weights of the true class and of the class that
    the found image is taken for (0 where none is found).
    """

    def __init__(
        self, eps: float, norm: Norm, num_classes: int, start_steps: int, steps: int, lean: Lean | None
    ) -> None:
        self.eps = eps
        self.norm = norm
        self.num_classes = num_classes
        self.start_steps = start_steps
        self.sizes = (eps,) * start_steps + step_sizes(eps, steps)
        self.lean = lean
        self.iterations = len(self.sizes)
        early = (k for k in (2, 4) if k < self.iterations)
        self.regroup = (*early, *range(8, self.iterations, 8), self.iterations)
        self.cost = (self.iterations + 1, self.iterations)

    def begin(self, network: Network, rows: Rows, draws: ImageDraws) -> None:
        x, y = rows["x"], rows["y"]
        rows["iterate"] = (x + BALLS[self.norm](x, self.eps).uniform(draws)).clamp(0, 1)
        rows["direction"] = self._direction(rows, draws)
        rows["best"] = x.new_full((len(x),), -math.inf)
        rows["in_start"] = torch.zeros_like(rows["found"])
        rows["own_weight"] = of_class(rows["direction"], y)
        rows["reached_weight"] = torch.zeros_like(rows["best"])

    def step(self, network: Network, rows: Rows, k: int) -> None:
        y, direction = rows["y"], rows["direction"]

        def values(logits: Tensor) -> Tensor:
            return (logits * direction).sum(1) if k < self.start_steps else margin(logits, y)

        logits, _, gradient = network.gradient(rows["iterate"], values)
        self._judge(rows, logits, k)
        ball = BALLS[self.norm](rows["x"], self.eps)
        rows["iterate"] = ball.project(rows["iterate"] + self.sizes[k] * ball.steepest(gradient))
        if k + 1 == self.iterations:
            self._judge(rows, network.logits(rows["iterate"]), k + 1)

    def _direction(self, rows: Rows, draws: ImageDraws) -> Tensor:
        x = rows["x"]
        weight = 2 * draws.of("direction").uniform(x.new_empty(len(x), self.num_classes)) - 1
        if self.lean is None:
            return weight
        low, high = self.lean.own
        own = low + (high - low) * draws.of("own").uniform(x.new_empty(len(x), 1))
        weight = weight.scatter(1, rows["y"][:, None], own)
        return weight.scatter(1, rows["target"][:, None], self.lean.rival)

    def _judge(self, rows: Rows, logits: Tensor, k: int) -> None:
        """What the logits of iterate k, after k steps, say."""
        reached = logits.argmax(1)
        fooled = reached != rows["y"]
        new = fooled & ~rows["found"]
        if k <= self.start_steps:
            rows["in_start"] = rows["in_start"] | new
        weight = of_class(rows["direction"], reached)
        rows["reached_weight"] = torch.where(new, weight, rows["reached_weight"])
        rows["best"] = torch.maximum(rows["best"], margin(logits, rows["y"]).to(rows["best"]))
        note(rows, rows["iterate"], fooled)


def step_sizes(eps: float, steps: int) -> tuple[float, ...]:
    """From eps down half a cosine, towards a tenth of it (at most ten steps) or a thousandth."""
    least = eps * (0.1 if steps <= 10 else 0.001)
    return tuple(least + (eps - least) * (1 + math.cos(math.pi * s / (steps + 1))) / 2 for s in range(steps))
