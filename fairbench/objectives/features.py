"""Penultimate features: what the last linear layer of a network gets, beside the logits."""

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fairbench.core.errors import ConfigError

_LAST_LAYERS: WeakKeyDictionary[nn.Module, nn.Linear] = WeakKeyDictionary()
"""The last linear layer of each network that was asked before; a network is searched once."""


def features(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The logits (B, C) of images `x`, and the features (B, D) from which the last layer computes them.

    Both in float32 or wider and with gradients; the network runs once. Raises ConfigError for a network whose
    logits are not the output of an `nn.Linear`.
    """
    known = _LAST_LAYERS.get(model)
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)] if known is None else [known]
    calls: list[tuple[nn.Linear, Tensor, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        calls.append((layer, inputs[0], output))

    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        with _without_compiler():
            logits: Any = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    if not calls and hasattr(logits, "features"):  # for the second label of mixed images: nothing ran again
        return logits, logits.features
    if not calls or (known is None and not _same(calls[-1][2], logits)):
        raise ConfigError(
            f"the network {type(model).__name__} has no features: it does not end with a linear layer.",
            hint="choose a network that returns what an nn.Linear computes, such as resnet18 or cnn-small",
        )
    layer, given, _ = calls[-1]
    _LAST_LAYERS[model] = layer
    logits.features = given if given.dtype == torch.float64 else given.float()
    return logits, logits.features


def _same(output: Tensor, logits: Tensor) -> bool:
    """Whether `logits` are `output`, perhaps in another precision; then the device is waited for."""
    if output is logits or logits.is_meta:
        return True
    cast = output.to(logits.dtype)
    same = cast.shape == logits.shape
    return same and bool(((cast == logits) | (cast.isnan() & logits.isnan())).all())


def _without_compiler() -> AbstractContextManager[Any]:
    """A block in which a compiled network runs as it is: compiled code does not call the layers."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled
        return nullcontext()
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager
