"""Attack some images of an evaluation again, with the draws that each image had then."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fairbench.attacks.apgd import Apgd
from fairbench.attacks.image_draws import ImageDraws
from fairbench.attacks.margin import other_classes
from fairbench.attacks.network import Network
from fairbench.attacks.search import BATCH_SIZE, Search
from fairbench.data.images import ImageSet, to_unit
from fairbench.evaluation.autoattack import SEARCHES
from fairbench.evaluation.campaign import Campaign
from fairbench.evaluation.evaluate import CHECKED, pgd_outcomes, targets
from fairbench.models.folding import folded
from fairbench.registry.attacks import A3Attack, AutoAttack, PgdAttack

REPEATED = ("apgd-ce", "apgd-t")  # the parts of AutoAttack that are repeated; of apgd-t the first target


def changed_by_pgd(
    model: nn.Module, images: ImageSet, index: Tensor, attack: PgdAttack, rows: NDArray[np.void]
) -> NDArray[np.bool_]:
    """Whether the images at `index` (n,) have other outcomes in a new run of PGD than in `rows` (N,)."""
    wrong = []
    for part in index.split(BATCH_SIZE):
        here = part.to(images.device)
        x, y = to_unit(images.images[here]), images.labels[here]
        draws = ImageDraws(attack.seed, part)
        again = pgd_outcomes(model, x, y, attack, draws, targets(y, attack, draws, images.num_classes))
        differ = [values.cpu().numpy() != rows[name][part.numpy()] for name, values in again.items()]
        wrong.append(np.any(differ, axis=0))
    return np.concatenate([*wrong, np.zeros(0, bool)])


def broken_again(
    model: nn.Module, images: ImageSet, index: Tensor, attack: AutoAttack | A3Attack
) -> tuple[int, bool]:
    """How many of the images at `index` (n,) a gradient search of the attack's radius breaks.

    Also whether that search is one that the attack made itself, from the same start, so that an image that
    withstood the attack must withstand it again. A success counts when the verdict confirms it.
    """
    example = to_unit(images.images[:CHECKED])
    dtype = torch.bfloat16 if attack.precision == "bfloat16" else None
    network = Network(folded(model, example, dtype), dtype)
    campaign = Campaign(model, network, images, attack.eps, attack.norm, attack.seed)
    own = isinstance(attack, AutoAttack) and attack.engine == "fairbench"
    parts = (
        [part for part in attack.parts if part in REPEATED] if isinstance(attack, AutoAttack) and own else []
    )
    if isinstance(attack, AutoAttack) and parts:
        ranking = other_classes(campaign.clean_logits, images.labels, attack.num_targets)
        for part in parts:
            key = "apgd-t.1" if part == "apgd-t" else part
            target = ranking[index.to(ranking.device), 0] if part == "apgd-t" else None
            campaign.attack(SEARCHES[part](attack), index, key, target=target)
    else:
        search: Search = Apgd(eps=attack.eps, norm=attack.norm, loss="ce", iterations=100)
        campaign.attack(search, index, "again")
    return int((~campaign.robust[index]).sum()), bool(parts)
