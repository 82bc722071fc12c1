"""A3 as a campaign: its rounds on the images that are still robust."""

from functools import partial

from torch import Tensor

from fairbench.attacks import a3_plan
from fairbench.attacks.a3 import a3
from fairbench.attacks.network import cost_of
from fairbench.attacks.search import Search, SearchResult
from fairbench.evaluation.campaign import Campaign
from fairbench.evaluation.time_left import TimeLeft, Work


def _expected_work(min_images: int) -> list[Work]:
    """The rounds by margin, as most models have them; how many images each attacks."""
    works, by_margin = [Work("ranking", 1.0)], a3_plan.AttackStatistics(robust=1)
    for number in range(a3_plan.NUM_ROUNDS):
        plan = a3_plan.plan_round(number, by_margin, few=False)
        steps = plan.start_steps + plan.steps
        chosen = partial(_chosen, plan.share, min_images)
        keys = (f"round-{number}.{repeat + 1}" for repeat in range(plan.restarts))
        works += [Work(key, cost_of(steps + 1, steps), chosen) for key in keys]
    return works


def _chosen(share: float, min_images: int, robust: float) -> float:
    """How many images a restart attacks."""
    return a3_plan.count_chosen(int(robust), share, min_images)


def run_a3(campaign: Campaign) -> None:
    """All rounds of A3 (arXiv 2203.05154)."""

    def attack(
        search: Search, index: Tensor, key: str, *, target: Tensor | None, keep: tuple[str, ...]
    ) -> SearchResult:
        stage = key if key == "ranking" else f"round-{key}"
        return campaign.attack(search, index, stage, target=target, keep=keep)

    min_images = 1 if len(campaign.label) < a3_plan.MIN_IMAGES_FROM else a3_plan.MIN_IMAGES
    campaign.time_left = TimeLeft(_expected_work(min_images), int(campaign.robust.sum()))
    a3(
        attack,
        campaign.robust_positions(),
        eps=campaign.eps,
        norm=campaign.norm,
        num_classes=campaign.num_classes,
        num_images=len(campaign.label),
    )
    campaign.survived.clear()  # rounds are not attacks of their own: only their passes are recorded
