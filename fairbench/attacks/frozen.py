"""A model as an attack sees it."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(model: nn.Module, *, train: bool = False) -> Iterator[None]:
    """Parameters without gradient, the model in eval (or train) mode; both restored afterwards."""
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
