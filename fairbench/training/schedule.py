"""The optimiser of a protocol, its learning rate over the epochs, and the number of steps."""

import torch
from torch import nn

from fairbench.registry.protocol import Protocol


def sgd(model: nn.Module, protocol: Protocol, *, fused: bool | None = None) -> torch.optim.SGD:
    """The protocol's optimiser of all parameters; `fused` asks for one kernel in place of many."""
    settings = protocol.optimizer
    return torch.optim.SGD(
        model.parameters(),
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.nesterov,
        fused=fused,
    )


def learning_rate(protocol: Protocol, epoch: int) -> float:
    """The rate in `epoch` (from 1): the base rate times the factor of the last milestone reached."""
    reached = [milestone for milestone in protocol.milestones if milestone <= epoch]
    factor = protocol.milestones[max(reached)] if reached else 1.0
    return protocol.optimizer.lr * factor


def steps_per_epoch(protocol: Protocol, num_images: int) -> int:
    """Steps of an epoch of `num_images` images; the last batch may be smaller."""
    return -(-num_images // protocol.batch_size)
