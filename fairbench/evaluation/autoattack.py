"""AutoAttack as a campaign: which searches run, in which order, on which target classes.

Croce and Hein, ICML 2020, arXiv 2003.01690. Each part attacks the images that are still robust, starting from
the clean image. Targeted parts use the most likely wrong classes of the clean image, one after the other.
"""

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fairbench.attacks.apgd import Apgd
from fairbench.attacks.autoattack import autoattack, require_classes
from fairbench.attacks.fab import Fab
from fairbench.attacks.margin import other_classes
from fairbench.attacks.network import BACKWARD, Network, cost_of
from fairbench.attacks.search import Search, SearchResult, run_search
from fairbench.attacks.square import Square
from fairbench.core.errors import ConfigError
from fairbench.data.images import to_unit
from fairbench.evaluation.campaign import Campaign
from fairbench.evaluation.time_left import TimeLeft, Work
from fairbench.registry.attacks import AutoAttack

TRIAL_STEPS, TRIAL_QUERIES = 4, 12
REFERENCE_COST = {  # in forward passes per image; FAB of the package also computes parameter gradients
    "apgd-ce": 103 + 101 * BACKWARD,
    "apgd-t": 920 + 909 * BACKWARD,
    "fab-t": 1829 + 900 * 2 * BACKWARD,
    "square": 5003.0,
}


def run_autoattack(campaign: Campaign, attack: AutoAttack) -> None:
    """Run all parts of `attack`. Raises ConfigError for fewer classes than its targeted loss needs."""
    require_classes(attack.parts, campaign.num_classes)
    if attack.engine == "reference":
        if attack.num_steps != 100:
            raise ConfigError("the reference package runs 100 steps only.", hint="leave num_steps out")
        _run_reference(campaign, attack)
        return
    ranking = other_classes(campaign.clean_logits, campaign.images.labels, attack.num_targets)
    plan: list[tuple[str, Search, Tensor | None]] = []
    for part in attack.parts:
        search = SEARCHES[part](attack)
        if part in ("apgd-t", "fab-t"):
            plan += [(f"{part}.{t + 1}", search, ranking[:, t]) for t in range(ranking.shape[1])]
        else:
            plan.append((part, search, None))
    campaign.time_left = TimeLeft(
        [Work(key, cost_of(*search.cost)) for key, search, _ in plan],
        int(campaign.robust.sum()),
        _measure_paces(campaign, attack, ranking),
    )
    for key, search, target in plan:
        index = campaign.robust_positions()
        aims = None if target is None else target[index.to(target.device)]
        campaign.attack(search, index, key, target=aims)


def _measure_paces(campaign: Campaign, attack: AutoAttack, ranking: Tensor) -> dict[str, float]:
    """Seconds per pass of each part in a few steps on one batch, to compare parts that have not begun.

    Nothing of it counts: the passes are those of another `Network`, and all draws are named.
    """
    index = campaign.robust_positions()[: campaign.batch_size]
    if len(index) < campaign.batch_size or len(attack.parts) == 1:
        return {}  # too few images for a trial, or nothing to compare
    short = attack.model_copy(update={"num_steps": TRIAL_STEPS, "num_queries": TRIAL_QUERIES})
    here = index.to(campaign.images.device)
    x, y, target = to_unit(campaign.images.images[here]), campaign.images.labels[here], ranking[here, 0]
    paces = {}
    for part in attack.parts:
        for _ in range(2):  # the first time includes what is prepared once
            network = Network(campaign.network.model, campaign.network.dtype)
            began = time.perf_counter()
            result = run_search(
                SEARCHES[part](short), network, x, y, index, seed=0, target=target, batch_size=len(index)
            )
            result.success.any().item()  # waits for the device
            paces[part] = (time.perf_counter() - began) / network.passes.cost
    return paces


SEARCHES: dict[str, Callable[[AutoAttack], Search]] = {
    "apgd-ce": lambda a: Apgd(eps=a.eps, norm=a.norm, loss="ce", iterations=a.num_steps),
    "apgd-t": lambda a: Apgd(eps=a.eps, norm=a.norm, loss="dlr-t", iterations=a.num_steps),
    "fab-t": lambda a: Fab(eps=a.eps, norm=a.norm, iterations=a.num_steps),
    "square": lambda a: Square(eps=a.eps, norm=a.norm, queries=a.num_queries),
}


def _run_reference(campaign: Campaign, attack: AutoAttack) -> None:
    """Run the attacks of the package, each on the robust images, in batches in index order as the package."""
    plan = [Work(part, REFERENCE_COST[part]) for part in attack.parts]
    campaign.time_left = TimeLeft(plan, int(campaign.robust.sum()))

    def attempt(
        x: Tensor, y: Tensor, index: Tensor, tick: Callable[[float], None], part: str
    ) -> SearchResult:
        batches = zip(x.split(campaign.batch_size), y.split(campaign.batch_size), strict=True)
        parts = [
            autoattack(
                campaign.network,
                batch_x,
                batch_y,
                norm=attack.norm,
                eps=attack.eps,
                seed=attack.seed,
                num_classes=campaign.num_classes,
                stages=(part,),
                num_targets=attack.num_targets,
                num_queries=attack.num_queries,
            )
            for batch_x, batch_y in batches
        ]
        x_adv = torch.cat(parts)
        return SearchResult((x_adv != x).flatten(1).any(1), {"x_adv": x_adv})

    for part in attack.parts:
        campaign.attempt(partial(attempt, part=part), campaign.robust_positions(), part)
