"""Held-out training images: used for validation every epoch, never for training."""

import torch
from torch import Tensor

from fairbench.core.errors import EmptyClassError
from fairbench.core.seeds import derive_seed
from fairbench.data.splits import held_out_count


def training_mask(
    labels: Tensor, num_classes: int, *, share: float, min_per_class: int, pick: str, seed: int
) -> Tensor:
    """Mask (N,) bool of the images for training, on the CPU; the others are held out.

    Of a class with n images, round(share * n) are held out, at least `min_per_class` and at most n // 2.
    `pick` chooses them: "first" or "last" in data set order, or "seeded", by a permutation that depends on
    `seed` only. So two methods with the same share hold out the same images, and a smaller share is a subset
    of a larger one. Raises EmptyClassError when a class has fewer than two images.
    """
    labels = labels.cpu()
    keep = torch.ones(len(labels), dtype=torch.bool)
    for label in range(num_classes):
        members = (labels == label).nonzero().flatten()
        if len(members) < 2:
            raise EmptyClassError(
                f"class {label} has {len(members)} training images: none can be held out for validation.",
                hint="take more images per class",
            )
        count = held_out_count(len(members), share, min_per_class)
        if pick == "seeded":
            generator = torch.Generator().manual_seed(derive_seed(seed, "hold out", label))
            members = members[torch.randperm(len(members), generator=generator)]
        elif pick == "last":
            members = members.flip(0)
        keep[members[:count]] = False
    return keep
