"""The learning rate of an epoch."""

from fairbench.registry.schema import Protocol


def learning_rate(protocol: Protocol, epoch: int) -> float:
    """The rate in `epoch` (from 1): the base rate times the factor of the last milestone reached."""
    reached = [milestone for milestone in protocol.milestones if milestone <= epoch]
    factor = protocol.milestones[max(reached)] if reached else 1.0
    return protocol.optimizer.lr * factor
