"""Faster copies of networks for attacks: BatchNorm folded into convolutions, channels-last layout.

The forward method of the network runs unchanged: tracing only finds pairs of a convolution and a BatchNorm,
whose modules are then replaced. So custom gradients, no_grad and the like in the forward method are kept.
"""

import copy
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fairbench.core.errors import ConfigError

log = logging.getLogger(__name__)

COMPARED = 4  # images on which the folded network is compared with the original
TOLERANCE = 1e-4  # relative to the largest value; a wrongly folded network differs by far more
FOLDABLE = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}


def folded(model: nn.Module, example: Tensor, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy of `model` (eval mode) that gives the same logits and gradients up to rounding, in `dtype`.

    A network that cannot be folded is copied without folding. One that cannot be copied is returned itself;
    this raises ConfigError when a `dtype` is given. `example`: (B, ch, H, W).
    """
    try:
        network = fold(copy.deepcopy(model).eval(), pairs_to_fold(model, example))
    except Exception as error:  # copying runs code of the model, which may raise anything
        log.debug("the model cannot be copied: %s", error)
        if dtype is not None:
            raise ConfigError(
                f"this model cannot be copied, so it cannot be attacked in {dtype}: {error}.",
                hint="run the attack in float32",
            ) from error
        return model
    pays = channels_last_pays(example.device, float32=dtype is None)
    freeze(network, channels_last=pays and example.dim() == 4)
    return network if dtype is None else network.to(dtype)


def channels_last_pays(device: torch.device, *, float32: bool) -> bool:
    """Whether convolutions are faster in channels-last layout; not with cuDNN in float32 (docs/speed.md)."""
    return not (device.type == "cuda" and float32)


def freeze(model: nn.Module, *, channels_last: bool) -> None:
    """Turn off gradients of the parameters; with `channels_last` convert them to that layout."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if channels_last:
        model.to(memory_format=torch.channels_last)


def pairs_to_fold(model: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Names (convolution, BatchNorm) of the pairs to fold.

    Empty when the network cannot be traced, or when the folded network differs on `example` by more than
    rounding. Compared in float64: in float32, rounding alone can change the sign at a ReLU, and so gradients.
    """
    try:
        trial = _with_statistics(copy.deepcopy(model).eval()).double()
        pairs = list(_candidates(trial))
        if _same_up_to_rounding(trial, fold(copy.deepcopy(trial), pairs), example[:COMPARED].double()):
            return pairs
        log.debug("not folded: the outputs differ")
    except Exception as error:  # tracing runs code of the model, which may raise anything
        log.debug("not folded: %s", error)
    return []


def fold(model: nn.Module, pairs: Iterable[tuple[str, str]]) -> nn.Module:
    """`model` itself, with the BatchNorm of each pair folded into its convolution."""
    for conv, norm in pairs:
        layers: Any = model.get_submodule(conv), model.get_submodule(norm)
        model.set_submodule(conv, fuse_conv_bn_eval(*layers))
        model.set_submodule(norm, nn.Identity())
    return model


def _candidates(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of a convolution and a BatchNorm that is the only user of its output; both are called once."""
    graph = fx.Tracer().trace(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    calls = Counter(id(modules[node.target]) for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(source, fx.Node) or source.op != "call_module":
            continue
        conv, norm = modules[source.target], modules[node.target]
        only_user = len(source.users) == 1 and calls[id(conv)] == calls[id(norm)] == 1
        foldable = FOLDABLE.get(type(conv)) is type(norm) and norm.track_running_stats
        hooked = any((m._forward_hooks or m._forward_pre_hooks) for m in (conv, norm))
        if only_user and foldable and not hooked:
            yield str(source.target), str(node.target)


def _same_up_to_rounding(model: nn.Module, network: nn.Module, example: Tensor) -> bool:
    """Whether logits, and gradients of one combination of logits, agree up to rounding."""
    pairs = zip(_logits_and_gradient(model, example), _logits_and_gradient(network, example), strict=True)
    return all(
        bool((a - b).abs().max() <= TOLERANCE * a.abs().max().clamp(min=torch.finfo(a.dtype).tiny))
        for a, b in pairs
    )


def _logits_and_gradient(model: nn.Module, example: Tensor) -> tuple[Tensor, Tensor]:
    x = example.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        direction = torch.linspace(-1, 1, logits.shape[1], dtype=logits.dtype, device=logits.device)
        (gradient,) = torch.autograd.grad((logits * direction).sum(), x)
    return logits.detach(), gradient


@torch.no_grad()
def _with_statistics(model: nn.Module) -> nn.Module:
    """`model` itself with non-trivial BatchNorm statistics: in a new network BatchNorm is the identity."""
    for module in model.modules():
        if isinstance(module, tuple(FOLDABLE.values())) and module.track_running_stats:
            values: list[Any] = [module.running_mean, module.running_var, module.weight, module.bias]
            for start, value in zip((-0.5, 0.5, 0.5, -0.5), values, strict=True):
                if value is not None:
                    value.copy_(torch.linspace(start, start + 1, len(value)))
    return model
