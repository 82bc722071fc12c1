"""A3 as a campaign: its rounds on the images that are still robust."""

from torch import Tensor

from fairbench.attacks.a3 import a3
from fairbench.attacks.search import Search, SearchResult
from fairbench.evaluation.campaign import Campaign


def run_a3(campaign: Campaign) -> None:
    """All rounds of A3 (arXiv 2203.05154)."""

    def attack(
        search: Search, index: Tensor, key: str, *, target: Tensor | None, keep: tuple[str, ...]
    ) -> SearchResult:
        stage = key if key == "ranking" else f"round-{key}"
        return campaign.attack(search, index, stage, target=target, keep=keep)

    a3(
        attack,
        campaign.robust_positions(),
        eps=campaign.eps,
        norm=campaign.norm,
        num_classes=campaign.num_classes,
        num_images=len(campaign.label),
    )
    campaign.survived.clear()  # rounds are not attacks of their own: only their passes are recorded
