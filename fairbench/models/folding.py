"""The same network with less arithmetic: BatchNorm folded into convolutions, channels last."""

import copy
import logging

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.experimental.optimization import fuse

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of the largest logit; folding in float32 changes logits by 1e-6 of it


def folded(model: nn.Module, example: Tensor, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy of `model` (eval mode) that gives the same logits up to rounding, in `dtype`, channels last.

    A network that torch.fx cannot trace, or whose folded logits on `example` (B, ch, H, W) differ by more
    than rounding, is copied as it is.
    """
    found: nn.Module = copy.deepcopy(model)
    try:
        fused = fuse(found)
        fits = isinstance(fused, GraphModule) and _same(model, fused, example)
    except Exception as error:  # tracing runs the author's code with stand-ins for tensors: anything may come
        log.debug("not folded: %s", error)
        fits = False
    if fits:
        found = fused
    found.eval()
    for parameter in found.parameters():
        parameter.requires_grad_(False)
    if example.dim() == 4:
        found.to(memory_format=torch.channels_last)
    return found if dtype is None else found.to(dtype)


def _same(model: nn.Module, fused: nn.Module, example: Tensor) -> bool:
    with torch.no_grad():
        wanted, found = model(example), fused(example)
    return bool((wanted - found).abs().max() <= TOLERANCE * wanted.abs().max().clamp(min=1))
