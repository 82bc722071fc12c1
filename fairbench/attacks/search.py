"""Iterative searches for adversarial images: one row per image, no row knows another.

A search keeps all it knows of an image in rows, tensors whose first axis is the image. So images may be
regrouped into other batches between iterations: those that are found leave, the others close up.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.network import Network

Rows = dict[str, Tensor]
"""By name: x, y, target (targeted searches only), x_adv, found, place, and what a search adds."""

BATCH_SIZE = 256


class Search(ABC):
    """A search for images within `eps` of x that the network gets wrong.

    iterations  how many times `step` is called for an image that is not found
    regroup     after which iterations (ascending, the last is `iterations`) found images leave; regrouping
                asks the device for a value, so it is rare where little falls
    cost        forward and backward passes per image of a whole search, for progress
    """

    iterations: int
    regroup: tuple[int, ...]
    cost: tuple[float, float]

    @abstractmethod
    def begin(self, network: Network, rows: Rows, draws: ImageDraws) -> None:
        """Add the search's own rows before the first iteration; may find images already."""

    @abstractmethod
    def step(self, network: Network, rows: Rows, k: int) -> None:
        """Iteration k = 0..iterations-1 for all rows, in place.

        Shapes never change and nothing waits for the device. Rows that are
        found may be moved on or not; their `x_adv` stays that of the first success.
        """


def note(rows: Rows, candidate: Tensor, fooled: Tensor) -> None:
    """Mark the rows that `fooled` (B,) and keep the `candidate` images of those not found before."""
    new = fooled & ~rows["found"]
    rows["x_adv"] = torch.where(new.view(-1, *[1] * (candidate.dim() - 1)), candidate, rows["x_adv"])
    rows["found"] = rows["found"] | fooled


@dataclass(frozen=True)
class Findings:
    """What a search says of n images, in their order: who was found (n,), and the rows that it keeps."""

    found: Tensor
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
) -> Findings:
    """Search around images x (n, ch, H, W) in [0, 1] with labels y (n,) and data-set positions `index` (n,).

    `index` is on the CPU and keys all draws with `seed` and `purpose`, so findings do not depend on
    `batch_size` or on which other images are searched. `keep` names the rows to return. `tick(share)` hears
    after each batch of a leg which share of the iterations is done. The caller has made the model frozen
    and in eval mode.
    """
    n = len(x)
    found = torch.zeros(n, dtype=torch.bool, device=x.device)
    kept: Rows = {}
    if n == 0:
        return Findings(found, {name: x.new_empty(0) for name in keep})
    parts = []
    for some in torch.arange(n).split(batch_size):
        here = some.to(x.device)
        rows = {"x": x[here], "y": y[here], "place": here, "x_adv": x[here], "found": found[here]}
        if target is not None:
            rows["target"] = target[here]
        search.begin(network, rows, ImageDraws(seed, index[some], purpose))
        parts.append(rows)
    first = 0
    for last in search.regroup:
        begun = len(parts)
        for done, rows in enumerate(parts):
            for k in range(first, last):
                search.step(network, rows, k)
            tick((first + (last - first) * (done + 1) / begun) / search.iterations)
        first = last
        leave = torch.ones_like if last == search.iterations else torch.clone
        for rows in parts:
            _store(kept, keep, rows, leave(rows["found"]), n)
            found[rows["place"]] |= rows["found"]
        if last < search.iterations:
            parts = _close_up(parts, batch_size)
    return Findings(found, kept)


def _store(kept: Rows, keep: tuple[str, ...], rows: Rows, leave: Tensor, n: int) -> None:
    """Copy the rows that leave to their places among all n images."""
    for name in keep:
        value = rows[name]
        if name not in kept:
            kept[name] = value.new_zeros(n, *value.shape[1:])
        kept[name][rows["place"][leave]] = value[leave]


def _close_up(parts: list[Rows], batch_size: int) -> list[Rows]:
    """The rows that are not found, in batches that are full again."""
    left = [~rows["found"] for rows in parts]
    if all(bool(stay.all()) for stay in left):
        return parts
    joined = {
        name: torch.cat([rows[name][stay] for rows, stay in zip(parts, left, strict=True)])
        for name in parts[0]
    }
    count = len(joined["place"])
    return [
        {name: value[first : first + batch_size] for name, value in joined.items()}
        for first in range(0, count, batch_size)
    ]
