"""Freeze a model for an attack."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(model: nn.Module, *, train: bool = False) -> Iterator[None]:
    """Inside the block, parameters take no gradient and the model is in eval (or train) mode."""
    before = model.training
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train(train)
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        model.train(before)
