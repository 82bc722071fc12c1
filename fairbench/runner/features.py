"""Features of a run's network: the inputs of its last layer for images without attack and under it.

Used by `fairbench figure features`; needs torch. Images, targets and noise are those of the evaluation: an
image is attacked here exactly as it was for the record.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fairbench.attacks.frozen import frozen
from fairbench.attacks.image_draws import ImageDraws
from fairbench.core.errors import ConfigError, ContractError
from fairbench.data.images import ImageSet, to_unit
from fairbench.evaluation.evaluate import pgd_images, targets
from fairbench.evaluation.verdicts import VERDICT_BATCH, full_precision
from fairbench.metrics.projection import Projection, plane
from fairbench.planning.code_locations import with_network
from fairbench.records.read import Record
from fairbench.records.run_folder import RunFolder
from fairbench.registry import PgdAttack, Registry, read_attack
from fairbench.runner.builders import load_split, trained_model
from fairbench.runner.device import choose_device

PER_CLASS = 200  # images of a class: more points would cover each other


def project(
    record: Record, classes: Sequence[int], attack: str, id: str, *, registry: Registry, device_name: str
) -> Projection:
    """Features of the first PER_CLASS test images of each of `classes`, projected on a plane.

    They are computed by the last checkpoint of `record`; the plane is that of clean and attacked images
    together. Raises ConfigError for an attack that is not PGD, and the errors of reading weights and images.
    """
    settings = read_attack(record.attack_settings(attack, id))
    if not isinstance(settings, PgdAttack):
        raise ConfigError(
            f"{attack} is not PGD: its images cannot be made again for a figure.",
            hint="name one: --attacks pgd-20",
        )
    run = RunFolder(record.folder)
    cell = with_network(run.read_cell(), registry)
    device = choose_device(device_name)
    images, _ = load_split(cell, "test", device)
    model = trained_model(cell, run, record.epochs_evaluated[-1], images, device)
    index = first_of(images, classes, PER_CLASS)
    x, y = to_unit(images.images[index.to(device)]), images.labels[index.to(device)]
    with frozen(model), full_precision():
        draws = ImageDraws(settings.seed, index)
        target = targets(y, settings, draws, images.num_classes)
        x_adv = pgd_images(model, x, y, settings, draws, target=target)
        feature, logits = penultimate(model, torch.cat([x, x_adv]))
    point, explained = plane(feature.cpu().double().numpy())
    twice = np.concatenate([index.numpy(), index.numpy()])
    return Projection(
        point,
        images.labels.cpu().numpy()[twice],
        logits.argmax(1).cpu().numpy(),
        np.arange(len(twice)) >= len(index),
        twice,
        explained,
    )


def first_of(images: ImageSet, classes: Sequence[int], per_class: int) -> Tensor:
    """Positions of the first images of each class, ascending."""
    label = images.labels.cpu()
    by_class = [(label == c).nonzero().flatten()[:per_class] for c in classes]
    return torch.cat(by_class).sort().values


def penultimate(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs (N, D) of the last linear layer for images x (N, ch, H, W), and the logits (N, C).

    Raises ContractError for a network that does not end in a linear layer.
    """
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    if not last:
        raise ContractError(
            "the network has no linear layer, so it has no features to show.",
            hint="features need a network that ends in torch.nn.Linear",
        )
    features: list[Tensor] = []
    handle = last[-1].register_forward_pre_hook(
        lambda _, inputs: features.append(inputs[0].detach().flatten(1))
    )
    try:
        with torch.no_grad():
            logits = torch.cat([model(part) for part in torch.split(x, VERDICT_BATCH)])
    finally:
        handle.remove()
    return torch.cat(features), logits
