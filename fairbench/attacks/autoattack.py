"""AutoAttack of the package `pyautoattack`, as a reference for the implementation in fairbench.

Croce and Hein, ICML 2020, arXiv 2003.01690. The package has a default eps of 0.3 and takes its default seed
from the clock; here both are required. Its targeted attacks fail with fewer than ten classes; here the number
of targets is at most C - 1.
"""

import sys
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fairbench.attacks.few_classes import MIN_CLASSES as MIN_CLASSES
from fairbench.attacks.few_classes import classes_needed
from fairbench.attacks.network import Network
from fairbench.core.errors import ConfigError


def require_classes(stages: Sequence[str], num_classes: int) -> None:
    """Raise ConfigError when one of `stages` needs more classes than there are."""
    needed = classes_needed(stages)
    if num_classes < needed:
        raise ConfigError(
            f"AutoAttack needs at least {needed} classes, the data set has {num_classes}.",
            hint="choose another attack: fairbench list attacks",
        )


def autoattack(
    network: Network,
    x: Tensor,
    y: Tensor,
    *,
    norm: str = "linf",
    eps: float,
    seed: int,
    num_classes: int,
    stages: Sequence[str] = (),
    num_targets: int = 9,
    num_queries: int = 5000,
) -> Tensor:
    """Adversarial images (N, ch, H, W) of AutoAttack for one batch `x` in [0, 1] with labels `y`.

    `stages`: which of apgd-ce, apgd-t, fab-t and square to run; empty for the standard version. The
    model must be in eval mode and return logits. Raises ConfigError for too few classes.
    """
    from pyautoattack import AutoAttack

    require_classes(stages, num_classes)
    attack = AutoAttack(
        _Counted(network),
        norm={"linf": "Linf", "l2": "L2"}[norm],
        eps=eps,
        seed=seed,
        device=str(x.device),
        version="standard",
    )
    if stages:  # version="custom" would also change the number of restarts
        attack.attacks_to_run = list(stages)
    targets = min(num_targets, num_classes - 1)
    attack.apgd_targeted.n_target_classes = targets
    attack.fab.n_target_classes = targets
    attack.square.n_queries = num_queries
    trace_function = sys.gettrace()
    try:
        x_adv, _ = attack.run_standard_evaluation(x, y, batch_size=len(x))
    finally:
        sys.settrace(trace_function)  # the package's check for dynamic defences removes it
    return torch.as_tensor(x_adv, device=x.device)


class _Counted(nn.Module):
    """The network as a module that counts passes: one backward pass for each forward pass with a graph."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.model = network.model
        self.passes = network.passes

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C)."""
        self.passes.forward += len(x)
        if torch.is_grad_enabled() and x.requires_grad:
            self.passes.backward += len(x)
        return self.model(x)
