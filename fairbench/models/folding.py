"""The same network with less arithmetic: BatchNorm folded into convolutions, channels last.

The author's forward runs unchanged. Tracing only finds out which BatchNorm follows which convolution; then
the modules are exchanged, so whatever else the forward does (custom gradients, no_grad) stays as it is.
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

COMPARED = 4  # images
TOLERANCE = 1e-4  # of the largest value; a network that is not the same differs by far more
FOLDABLE = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}


def folded(model: nn.Module, example: Tensor, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy of `model` (eval mode) that gives the same logits and gradients up to rounding, in `dtype`.

    A network that cannot be folded is copied without; one that cannot be copied is returned itself. Raises
    ConfigError when that one would have to change its dtype. `example`: (B, ch, H, W).
    """
    try:
        found = fold(copy.deepcopy(model).eval(), pairs_to_fold(model, example))
    except Exception as error:  # copying runs the author's code: anything may come
        log.debug("cannot be copied: %s", error)
        if dtype is not None:
            raise ConfigError(
                f"this model cannot be copied, so it cannot be searched in {dtype}: {error}.",
                hint="take the attack in float32",
            ) from error
        return model
    pays = channels_last_pays(example.device, float32=dtype is None)
    freeze(found, channels_last=pays and example.dim() == 4)
    return found if dtype is None else found.to(dtype)


def channels_last_pays(device: torch.device, *, float32: bool) -> bool:
    """Whether convolutions are faster in that layout; in full float32 cuDNN's are slower (docs/speed.md)."""
    return not (device.type == "cuda" and float32)


def freeze(model: nn.Module, *, channels_last: bool) -> None:
    """Parameters of `model` take no gradient from now on; with `channels_last` they are laid out so."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if channels_last:
        model.to(memory_format=torch.channels_last)


def pairs_to_fold(model: nn.Module, example: Tensor) -> list[tuple[str, str]]:
    """Names of convolutions with the BatchNorm to fold into each.

    None when the network cannot be traced or would differ on `example` by more than rounding. Compared in
    float64: in float32 rounding alone may move a ReLU over its edge, which changes gradients.
    """
    try:
        trial = _with_statistics(copy.deepcopy(model).eval()).double()
        pairs = list(_candidates(trial))
        if _same_up_to_rounding(trial, fold(copy.deepcopy(trial), pairs), example[:COMPARED].double()):
            return pairs
        log.debug("not folded: the outputs differ")
    except Exception as error:  # tracing runs the author's code, too
        log.debug("not folded: %s", error)
    return []


def fold(model: nn.Module, pairs: Iterable[tuple[str, str]]) -> nn.Module:
    """`model` itself, with each BatchNorm of `pairs` in its convolution."""
    for conv, norm in pairs:
        layers: Any = model.get_submodule(conv), model.get_submodule(norm)
        model.set_submodule(conv, fuse_conv_bn_eval(*layers))
        model.set_submodule(norm, nn.Identity())
    return model


def _candidates(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of a convolution and the BatchNorm that alone takes its output, each used once."""
    graph = fx.Tracer().trace(model)
    modules = dict(model.named_modules(remove_duplicate=False))
    calls = Counter(id(modules[node.target]) for node in graph.nodes if node.op == "call_module")
    for node in graph.nodes:
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        conv, norm = modules[before.target], modules[node.target]
        alone = len(before.users) == 1 and calls[id(conv)] == calls[id(norm)] == 1
        plain = FOLDABLE.get(type(conv)) is type(norm) and norm.track_running_stats
        hooked = any((m._forward_hooks or m._forward_pre_hooks) for m in (conv, norm))
        if alone and plain and not hooked:
            yield str(before.target), str(node.target)


def _same_up_to_rounding(model: nn.Module, found: nn.Module, example: Tensor) -> bool:
    """Whether logits and the gradients of one direction in logit space agree up to rounding."""
    wanted, got = (_logits_and_gradient(each, example) for each in (model, found))
    return all(
        bool((a - b).abs().max() <= TOLERANCE * a.abs().max().clamp(min=torch.finfo(a.dtype).tiny))
        for a, b in zip(wanted, got, strict=True)
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
    """`model` itself with BatchNorms that do something: those of a new network are the identity."""
    for module in model.modules():
        if isinstance(module, tuple(FOLDABLE.values())) and module.track_running_stats:
            values: list[Any] = [module.running_mean, module.running_var, module.weight, module.bias]
            for start, value in zip((-0.5, 0.5, 0.5, -0.5), values, strict=True):
                if value is not None:
                    value.copy_(torch.linspace(start, start + 1, len(value)))
    return model
