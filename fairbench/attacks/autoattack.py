"""AutoAttack through the package `pyautoattack`, with its traps closed.

Croce and Hein, ICML 2020, arXiv 2003.01690. The package defaults to eps 0.3 and to a seed from the
clock, and fails in the targeted attacks when there are fewer than ten classes; here both are
required and the number of targets follows the classes.
"""

import sys

import torch
from torch import Tensor, nn

from fairbench.core.errors import ConfigError

MIN_CLASSES = 4  # the targeted loss compares the four largest logits
MAX_TARGETS = 9


def autoattack(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    eps: float,
    seed: int,
    num_classes: int,
    stages: tuple[str, ...] = (),
    batch_size: int = 250,
) -> Tensor:
    """Adversarial images (N, C, H, W) of AutoAttack (Linf) for `x` in [0, 1], labels `y`.

    Without `stages` the standard version; else these stages, of apgd-ce, apgd-t, fab-t, square. The
    model must be in eval mode and give logits. Raises ConfigError for fewer than four classes.
    """
    from pyautoattack import AutoAttack

    if num_classes < MIN_CLASSES:
        raise ConfigError(
            f"AutoAttack needs at least {MIN_CLASSES} classes, the data set has {num_classes}.",
            hint="choose another attack: fairbench list attacks",
        )
    attack = AutoAttack(model, norm="Linf", eps=eps, seed=seed, device=str(x.device), version="standard")
    if stages:  # not version="custom": that would also change restarts
        attack.attacks_to_run = list(stages)
    targets = min(MAX_TARGETS, num_classes - 1)
    attack.apgd_targeted.n_target_classes = targets
    attack.fab.n_target_classes = targets
    tracer = sys.gettrace()
    try:
        x_adv, _ = attack.run_standard_evaluation(x, y, batch_size=batch_size)
    finally:
        sys.settrace(tracer)  # the package's check for dynamic defences takes it away
    return torch.as_tensor(x_adv, device=x.device)
