"""Iterative searches for adversarial images, with one row per image; rows are independent of each other.

A search keeps its state in rows: tensors whose first axis is the image. So images can be regrouped into
other batches between iterations: images with success leave, and the others are joined to full batches.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fairbench.attacks.budget import column
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.network import Network

Rows = dict[str, Tensor]
"""By name: x, y, target (targeted searches only), x_adv, success, position, and the rows of the search."""

BATCH_SIZE = 256


class Search(ABC):
    """A search for misclassified images within `eps` of x.

    iterations  number of calls of `step` for an image without success
    regroup     numbers of iterations (ascending, the last is `iterations`) after which images with success
                leave; regrouping synchronises with the device, so it is rare where few images succeed
    cost        forward and backward passes per image without success, for the estimate of the time left
    """

    iterations: int
    regroup: tuple[int, ...]
    cost: tuple[float, float]

    @abstractmethod
    def begin(self, network: Network, rows: Rows, draws: ImageDraws) -> None:
        """Add the rows of the search before the first iteration; may already set `success`."""

    @abstractmethod
    def step(self, network: Network, rows: Rows, k: int) -> None:
        """Iteration k = 0..iterations-1 for all rows, in place.

        Must not change shapes nor synchronise with the device. Rows with success may be changed further, but
        not their `x_adv`.
        """


def record_success(rows: Rows, candidate: Tensor, fooled: Tensor) -> None:
    """Set `success` where `fooled` (B,), and store the `candidate` images of new successes in `x_adv`."""
    new = fooled & ~rows["success"]
    rows["x_adv"] = torch.where(column(new, candidate), candidate, rows["x_adv"])
    rows["success"] = rows["success"] | fooled


@dataclass(frozen=True)
class SearchResult:
    """The result of a search on n images, in their order: `success` (n,) bool, and the kept rows by name."""

    success: Tensor
    rows: Rows


def run_search(
    search: Search,
    network: Network,
    x: Tensor,
    y: Tensor,
    index: Tensor,
    *,
    seed: int,
    purpose: str = "search",
    target: Tensor | None = None,
    keep: tuple[str, ...] = ("x_adv",),
    batch_size: int = BATCH_SIZE,
    tick: Callable[[float], None] = lambda share: None,
) -> SearchResult:
    """Search around images x (n, ch, H, W) in [0, 1] with labels y (n,) and data-set positions `index` (n,).

    `index` is on the CPU and keys all draws together with `seed` and `purpose`, so the result does not depend
    on `batch_size` or on the other images. `keep` names the rows to return. `tick(share)` is called after
    each batch with the share of the iterations that is done. The model must be frozen and in eval mode.
    """
    n = len(x)
    success = torch.zeros(n, dtype=torch.bool, device=x.device)
    kept: Rows = {}
    if n == 0:
        return SearchResult(success, {name: x.new_empty(0) for name in keep})
    batches = []
    for batch in torch.arange(n).split(batch_size):
        position = batch.to(x.device)
        rows = {"x": x[position], "y": y[position], "x_adv": x[position]}
        rows |= {"position": position, "success": success[position]}
        if target is not None:
            rows["target"] = target[position]
        search.begin(network, rows, ImageDraws(seed, index[batch], purpose))
        batches.append(rows)
    first = 0
    for last in search.regroup:
        done, count = 0, sum(len(rows["x"]) for rows in batches)
        for rows in batches:
            for k in range(first, last):
                search.step(network, rows, k)
            done += len(rows["x"])
            tick((first + (last - first) * done / count) / search.iterations)
        first = last
        leave = torch.ones_like if last == search.iterations else torch.clone
        for rows in batches:
            _store(kept, keep, rows, leave(rows["success"]), n)
            success[rows["position"]] |= rows["success"]
        if last < search.iterations:
            batches = _regroup(batches, batch_size)
    return SearchResult(success, kept)


def _store(kept: Rows, keep: tuple[str, ...], rows: Rows, leave: Tensor, n: int) -> None:
    """Copy the rows of the images that `leave` (B,) to their positions among all n images."""
    for name in keep:
        value = rows[name]
        if name not in kept:
            kept[name] = value.new_zeros(n, *value.shape[1:])
        kept[name][rows["position"][leave]] = value[leave]


def _regroup(batches: list[Rows], batch_size: int) -> list[Rows]:
    """The rows without success, in full batches."""
    remaining = [~rows["success"] for rows in batches]
    if all(bool(stay.all()) for stay in remaining):
        return batches
    joined = {
        name: torch.cat([rows[name][stay] for rows, stay in zip(batches, remaining, strict=True)])
        for name in batches[0]
    }
    count = len(joined["position"])
    return [
        {name: value[first : first + batch_size] for name, value in joined.items()}
        for first in range(0, count, batch_size)
    ]
