"""AutoAttack as a campaign: which searches run, in which order, on which target classes.

Croce and Hein, ICML 2020, arXiv 2003.01690. Each part attacks the images that are still robust, starting from
the clean image. Targeted parts use the most likely wrong classes of the clean image, one after the other.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from fairbench.attacks.apgd import Apgd
from fairbench.attacks.autoattack import autoattack, require_classes
from fairbench.attacks.fab import Fab
from fairbench.attacks.margin import other_classes
from fairbench.attacks.search import Search, SearchResult
from fairbench.attacks.square import Square
from fairbench.core.errors import ConfigError
from fairbench.evaluation.campaign import BACKWARD, Campaign
from fairbench.registry.attacks import AutoAttack

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
    campaign.expected = {key: search.cost[0] + BACKWARD * search.cost[1] for key, search, _ in plan}
    for key, search, target in plan:
        index = campaign.robust_positions()
        aims = None if target is None else target[index.to(target.device)]
        campaign.attack(search, index, key, target=aims)


SEARCHES: dict[str, Callable[[AutoAttack], Search]] = {
    "apgd-ce": lambda a: Apgd(eps=a.eps, norm=a.norm, loss="ce", iterations=a.num_steps),
    "apgd-t": lambda a: Apgd(eps=a.eps, norm=a.norm, loss="dlr-t", iterations=a.num_steps),
    "fab-t": lambda a: Fab(eps=a.eps, norm=a.norm, iterations=a.num_steps),
    "square": lambda a: Square(eps=a.eps, norm=a.norm, queries=a.num_queries),
}


def _run_reference(campaign: Campaign, attack: AutoAttack) -> None:
    """Run the attacks of the package, each on the robust images, in batches in index order as the package."""
    campaign.expected = {part: REFERENCE_COST[part] for part in attack.parts}

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
        campaign.attempt(partial(attempt, part=part), campaign.robust_positions(), part, REFERENCE_COST[part])
