"""Freeze a model for an attack."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

BatchNormMode = Literal["eval", "train", "batch"]


@contextmanager
def frozen(model: nn.Module, batch_norm: BatchNormMode = "eval") -> Iterator[None]:
    """Inside the block, parameters take no gradient and the model is in eval mode.

    With `batch_norm` "train" the model is in train mode: BatchNorm uses the statistics of the batch and
    updates the running ones. With "batch" only BatchNorm is, and its running statistics are not updated.
    """
    before = model.training
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train(batch_norm == "train")
    layers = [
        module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
    for layer in layers if batch_norm == "batch" else ():
        layer.train()
        layer.track_running_stats = False  # in train mode: neither used nor updated
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        for layer in layers:
            layer.track_running_stats = True
        model.train(before)
