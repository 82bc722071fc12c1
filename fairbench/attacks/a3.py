"""A3, Adaptive Auto Attack: better starting points, and more steps for the images that are easiest to break.

Liu et al., CVPR 2022, arXiv 2203.05154; constants from the authors' program
(liuye6666/adaptive_auto_attack@c3650cd). There are thirteen rounds of restarts. A restart first moves the
logits along a direction, whose bias is estimated from the images broken before (adaptive direction
initialisation), then raises the margin. From round 3 on only the images with the highest margins are attacked
(online statistics-based discarding).

Differences from the program:
- Draws are keyed by image and restart. The program draws the weight of the true class once per batch; here
  each image has its own.
- Iterates are evaluated by the forward pass of their gradient: K + 1 forward passes for K steps, not
  2 K + 1. So the start is evaluated too, and broken images leave at a few fixed iterations, not at each.
- Classes are ranked by a full sort without the true class; the program's partial sort may leave gaps.
- Images broken in the start steps are counted; in the program, a reused loop counter loses most of them.
- Sums over broken images work for any number of classes (the program counts ranks from 10), weights do not
  shrink below ten classes, and the ImageNet branch is not implemented.
- The chosen images are sorted by margin, then position: ties do not enlarge the choice. The minimum of 100
  images applies from 1,000 images on.
- The program's limit of 1,000 gradients per image is left out; it could only apply where the minimum does.
- L2 starts are uniform in the ball; the program's start outside of it and return with the first step.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from fairbench.attacks import a3_plan
from fairbench.attacks.balls import BALLS
from fairbench.attacks.budget import Norm
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.margin import gather_class, margin, other_classes
from fairbench.attacks.network import Network
from fairbench.attacks.search import Rows, Search, SearchResult, record_success


class RunSearch(Protocol):
    """Runs a search on the images at data-set positions `index` (n,), CPU, ascending.

    `key` ("ranking", or "3.1" for the first restart of round 3) names this call and the purpose of its
    draws; an implementation may store the result under it and return it when the call is repeated.
    `target` (n,) and `keep` as for `run_search`. An image without `success` counts as robust and may be
    attacked again; `success` and the rows are on one device.
    """

    def __call__(
        self, search: Search, index: Tensor, key: str, *, target: Tensor | None, keep: tuple[str, ...]
    ) -> SearchResult: ...


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
    """Positions of the images that are still robust after all rounds on the images `index` (n,), CPU.

    `index` are the images, of `num_images` in all, that the model classifies correctly. A restart
    attacks at least `min_images` (default: 100, or 1 in a set of under 1,000 images). All decisions follow
    from the search results, so an interrupted attack continues from stored results.
    """
    if min_images is None:
        min_images = a3_plan.MIN_IMAGES if num_images >= a3_plan.MIN_IMAGES_FROM else 1
    ranking = Ranking(eps, norm, a3_plan.count_rivals(num_classes))
    ranked = attack(ranking, index, "ranking", target=None, keep=("rival",))
    robust = ~ranked.success.cpu()
    best = torch.full((len(index),), -math.inf, dtype=torch.float64)
    statistics = a3_plan.AttackStatistics()
    restart = 0
    for number in range(a3_plan.NUM_ROUNDS):
        if number == 1:
            statistics.robust = int(robust.sum())
        plan = a3_plan.plan_round(number, statistics, few=int(robust.sum()) < a3_plan.FEW * num_images)
        bias = a3_plan.plan_bias(number, statistics, num_classes)
        search = Restart(eps, norm, num_classes, plan.start_steps, plan.steps, bias)
        for repeat in range(plan.restarts):
            if not robust.any():
                return index[robust]
            chosen = choose(best, robust, plan.share, min_images)
            rivals = ranked.rows["rival"].cpu()[chosen]
            result = attack(
                search,
                index[chosen],
                f"{number}.{repeat + 1}",
                target=None if bias is None else rivals[:, (restart - 1) % bias.cycle],
                keep=("best", "in_start", "own_weight", "reached_weight"),
            )
            restart += 1
            robust[chosen] = ~result.success.cpu()
            best[chosen] = torch.maximum(best[chosen], result.rows["best"].cpu().double())
            _update(statistics, number, result)
    return index[robust]


def _update(statistics: a3_plan.AttackStatistics, number: int, result: SearchResult) -> None:
    """Add the result of a restart in round `number` to the statistics."""
    if number == 0:
        return  # round 0 has no start steps
    statistics.in_start += int((result.success & result.rows["in_start"]).sum())
    if number == 1:
        own, reached = (
            result.rows[name][result.success].double() for name in ("own_weight", "reached_weight")
        )
        statistics.own_weight_sum += float(own.sum())
        statistics.reached_weight_sum += float(reached.sum())


def choose(best: Tensor, robust: Tensor, share: float, min_images: int) -> Tensor:
    """Positions (ascending) of the `robust` images to attack: the `share` with the highest `best` margin."""
    positions = robust.nonzero().flatten()
    order = best[positions].argsort(descending=True, stable=True)
    count = a3_plan.count_chosen(len(positions), share, min_images)
    return positions[order[:count]].sort().values


class Ranking(Search):
    """Ranks the wrong classes by their logits, in one pass on the image plus noise of +-eps (L2: no noise).

    Row `rival` (B, R): the `num_rivals` classes with the highest logits, highest first.
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
        record_success(rows, rows["iterate"], logits.argmax(1) != rows["y"])
        rows["rival"] = other_classes(logits, rows["y"], self.num_rivals)


class Restart(Search):
    """A random start, `start_steps` steps of size eps along a logit direction, then `steps` up the margin.

    The weights of the direction are uniform in [-1, 1], except for the `bias` towards the class of row
    `target`. Rows, each (B,): `best`, the highest margin; `in_start`, success during the start steps;
    `own_weight` and `reached_weight`, the direction's weights of the true class and of the class predicted
    for the adversarial image (0 without success).
    """

    def __init__(
        self,
        eps: float,
        norm: Norm,
        num_classes: int,
        start_steps: int,
        steps: int,
        bias: a3_plan.DirectionBias | None,
    ) -> None:
        self.eps = eps
        self.norm = norm
        self.num_classes = num_classes
        self.start_steps = start_steps
        self.sizes = (eps,) * start_steps + step_sizes(eps, steps)
        self.bias = bias
        self.iterations = len(self.sizes)
        early = (k for k in (2, 4) if k < self.iterations)
        self.regroup = (*early, *range(8, self.iterations, 8), self.iterations)
        self.cost = (self.iterations + 1, self.iterations)

    def begin(self, network: Network, rows: Rows, draws: ImageDraws) -> None:
        x, y = rows["x"], rows["y"]
        rows["iterate"] = (x + BALLS[self.norm](x, self.eps).uniform(draws)).clamp(0, 1)
        rows["direction"] = self._direction(rows, draws)
        rows["best"] = x.new_full((len(x),), -math.inf)
        rows["in_start"] = torch.zeros_like(rows["success"])
        rows["own_weight"] = gather_class(rows["direction"], y)
        rows["reached_weight"] = torch.zeros_like(rows["best"])

    def step(self, network: Network, rows: Rows, k: int) -> None:
        y, direction = rows["y"], rows["direction"]

        def values(logits: Tensor) -> Tensor:
            return (logits * direction).sum(1) if k < self.start_steps else margin(logits, y)

        logits, _, gradient = network.gradient(rows["iterate"], values)
        self._evaluate(rows, logits, k)
        ball = BALLS[self.norm](rows["x"], self.eps)
        rows["iterate"] = ball.project(rows["iterate"] + self.sizes[k] * ball.steepest(gradient))
        if k + 1 == self.iterations:
            self._evaluate(rows, network.logits(rows["iterate"]), k + 1)

    def _direction(self, rows: Rows, draws: ImageDraws) -> Tensor:
        """One weight per class and image: (B, C)."""
        x = rows["x"]
        weight = 2 * draws.of("direction").uniform(x.new_empty(len(x), self.num_classes)) - 1
        if self.bias is None:
            return weight
        low, high = self.bias.own
        own = low + (high - low) * draws.of("own").uniform(x.new_empty(len(x), 1))
        weight = weight.scatter(1, rows["y"][:, None], own)
        return weight.scatter(1, rows["target"][:, None], self.bias.rival)

    def _evaluate(self, rows: Rows, logits: Tensor, k: int) -> None:
        """Update all rows from the logits of the iterate after k steps."""
        prediction = logits.argmax(1)
        fooled = prediction != rows["y"]
        new = fooled & ~rows["success"]
        if k <= self.start_steps:
            rows["in_start"] = rows["in_start"] | new
        weight = gather_class(rows["direction"], prediction)
        rows["reached_weight"] = torch.where(new, weight, rows["reached_weight"])
        rows["best"] = torch.maximum(rows["best"], margin(logits, rows["y"]).to(rows["best"]))
        record_success(rows, rows["iterate"], fooled)


def step_sizes(eps: float, steps: int) -> tuple[float, ...]:
    """Step sizes that fall from eps along half a cosine, to 0.1 eps (up to ten steps) or 0.001 eps."""
    last = eps * (0.1 if steps <= 10 else 0.001)
    return tuple(last + (eps - last) * (1 + math.cos(math.pi * s / (steps + 1))) / 2 for s in range(steps))
