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
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from fairbench.core.errors import ConfigError

log = logging.getLogger(__name__)

TOLERANCE = 1e-4  # of the largest value; folding in float32 changes logits by 1e-6 of it
COMPARED = 4  # images
WIDTH = 8  # channels, in bfloat16 and TF32
FOLDABLE = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}


def folded(model: nn.Module, example: Tensor, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy of `model` (eval mode) that gives the same logits and gradients up to rounding, in `dtype`.

    A network that cannot be traced, or that differs on `example` (B, ch, H, W) by more than rounding, is
    copied without folding; one that cannot be copied is returned itself. Raises ConfigError when that
    one would have to change its dtype.
    """
    try:
        found = _fused(model, example)
    except Exception as error:  # copying and tracing run the author's code: anything may come
        log.debug("cannot be copied: %s", error)
        if dtype is not None:
            raise ConfigError(
                f"this model cannot be copied, so it cannot be searched in {dtype}: {error}.",
                hint="take the attack in float32",
            ) from error
        return model
    for parameter in found.parameters():
        parameter.requires_grad_(False)
    if example.dim() == 4:
        found.to(memory_format=torch.channels_last)
    return found if dtype is None else found.to(dtype)


class FoldedTwin:
    """A folded copy of a network that is being trained; it has the weights of the last `refresh`.

    `network` is in eval mode, channels last, its parameters take no gradient. Convolutions and linear layers
    hold their weights in `dtype`, everything else keeps its own. Raises whatever copying the author's
    network raises.
    """

    def __init__(self, model: nn.Module, example: Tensor, dtype: torch.dtype | None = None) -> None:
        self.model = model
        self.pairs = self._foldable(example)
        self.network = _fold(copy.deepcopy(model).eval(), self.pairs)
        if example.is_cuda:
            _widen(self.network)
        for parameter in self.network.parameters():
            parameter.requires_grad_(False)
        if example.dim() == 4:
            self.network.to(memory_format=torch.channels_last)
        if dtype is not None:
            for module in self.network.modules():
                if isinstance(module, (*FOLDABLE, nn.Linear)):
                    module.to(dtype)
        folded = {f"{name}." for pair in self.pairs for name in pair}
        mine, theirs = self.network.state_dict(keep_vars=True), model.state_dict(keep_vars=True)
        self._copied = [
            (_corner(value, theirs[name].shape), theirs[name])
            for name, value in mine.items()
            if not any(name.startswith(prefix) for prefix in folded)
        ]

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the weights and the statistics that the network has now."""
        for conv_name, norm_name in self.pairs:
            conv: Any = self.model.get_submodule(conv_name)
            norm: Any = self.model.get_submodule(norm_name)
            fused: Any = self.network.get_submodule(conv_name)
            weight, bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            _corner(fused.weight, weight.shape).copy_(weight)
            fused.bias.copy_(bias)
        for mine, current in self._copied:
            mine.copy_(current)

    def _foldable(self, example: Tensor) -> list[tuple[str, str]]:
        """The pairs to fold; none when the network cannot be traced or differs by more than rounding.

        Compared in float64: in float32 rounding alone may move a ReLU over its edge.
        """
        try:
            trial = _with_statistics(copy.deepcopy(self.model).eval()).double()
            pairs = list(_pairs(trial))
            if _same(trial, _fold(copy.deepcopy(trial), pairs), example[:COMPARED].double()):
                return pairs
            log.debug("not folded: the outputs differ")
        except Exception as error:
            log.debug("not folded: %s", error)
        return []


class WideConv2d(nn.Conv2d):
    """A convolution of fewer images' channels than it has; those that lack are zeros."""

    def forward(self, input: Tensor) -> Tensor:
        """As the narrow one."""
        return super().forward(F.pad(input, (0, 0, 0, 0, 0, self.in_channels - input.shape[1])))


def _widen(model: nn.Module) -> None:
    """Give the convolutions that take images as many channels as tensor cores work on at a time."""
    for name, module in list(model.named_modules()):
        if type(module) is nn.Conv2d and module.in_channels < WIDTH and module.groups == 1:
            settings: Any = {
                key: getattr(module, key)
                for key in ("out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")
            }
            bias, weight = module.bias is not None, module.weight
            wide = WideConv2d(WIDTH, **settings, bias=bias, device=weight.device, dtype=weight.dtype)
            nn.init.zeros_(wide.weight)
            model.set_submodule(name, wide)


def _corner(tensor: Tensor, shape: torch.Size) -> Tensor:
    """The part of `tensor` that has this shape: all of it, but where a convolution was widened."""
    return tensor[tuple(slice(size) for size in shape)]


def _fold(model: nn.Module, pairs: Iterable[tuple[str, str]]) -> nn.Module:
    """`model` itself, with each BatchNorm of `pairs` in its convolution."""
    for conv, norm in pairs:
        layers: Any = model.get_submodule(conv), model.get_submodule(norm)
        model.set_submodule(conv, fuse_conv_bn_eval(*layers))
        model.set_submodule(norm, nn.Identity())
    return model


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


def _fused(model: nn.Module, example: Tensor) -> nn.Module:
    try:
        found = copy.deepcopy(model).eval()
        _fold(found, list(_pairs(found)))
        if _same(model, found, example):
            return found
    except Exception as error:
        log.debug("not folded: %s", error)
    return copy.deepcopy(model).eval()


def _pairs(model: nn.Module) -> Iterator[tuple[str, str]]:
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


def _same(model: nn.Module, found: nn.Module, example: Tensor) -> bool:
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
