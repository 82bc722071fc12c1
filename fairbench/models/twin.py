"""A copy of a network in training with less arithmetic, for attacks in eval mode."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from fairbench.models.folding import FOLDABLE, fold, freeze, pairs_to_fold

WIDTH = 8  # channels that tensor cores work on at a time, in bfloat16 and TF32


class FoldedTwin:
    """A folded copy of a network that is being trained; it has the weights of the last `refresh`.

    `network` is in eval mode, its parameters take no gradient. Convolutions and linear layers hold their
    weights in `dtype`, everything else keeps its own. Raises whatever copying the author's network raises.
    """

    def __init__(
        self,
        model: nn.Module,
        example: Tensor,
        dtype: torch.dtype | None = None,
        *,
        channels_last: bool = True,
    ) -> None:
        self.model = model
        self.pairs = pairs_to_fold(model, example)
        self.network = fold(copy.deepcopy(model).eval(), self.pairs)
        if suits_tensor_cores(example):
            _exchange_convolutions(self.network)
        freeze(self.network, channels_last=channels_last and example.dim() == 4)
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


class WideConv2d(nn.Conv2d):
    """A convolution that takes images of fewer channels than it has; those that lack are zeros."""

    def forward(self, input: Tensor) -> Tensor:
        """As the narrow one."""
        return super().forward(F.pad(input, (0, 0, 0, 0, 0, self.in_channels - input.shape[1])))


class SkippingConv2d(nn.Conv2d):
    """A strided convolution with a 1x1 kernel: it skips pixels first, then has a stride of 1."""

    def __init__(self, in_channels: int, out_channels: int, skip: tuple[int, int], **settings: Any) -> None:
        super().__init__(in_channels, out_channels, 1, **settings)
        self.skip = skip

    def forward(self, input: Tensor) -> Tensor:
        """As the strided one."""
        rows, columns = self.skip
        return super().forward(input[:, :, ::rows, ::columns])


def suits_tensor_cores(example: Tensor) -> bool:
    """Whether the device of these images has such units."""
    return example.is_cuda


def _exchange_convolutions(model: nn.Module) -> None:
    """Exchange convolutions for which GPUs have slow kernels only: of few channels, or 1x1 and strided."""
    for name, module in list(model.named_modules()):
        if type(module) is not nn.Conv2d or module.groups != 1 or module.padding_mode != "zeros":
            continue
        weight = module.weight
        common: Any = {
            "bias": module.bias is not None,
            "padding": module.padding,
            "dilation": module.dilation,
            "device": weight.device,
            "dtype": weight.dtype,
        }
        found: nn.Conv2d
        if module.in_channels < WIDTH:
            shape: Any = module.kernel_size, module.stride
            found = WideConv2d(WIDTH, module.out_channels, *shape, **common)
            nn.init.zeros_(found.weight)
        elif module.kernel_size == (1, 1) and module.stride != (1, 1) and module.padding == (0, 0):
            skip: Any = module.stride
            found = SkippingConv2d(module.in_channels, module.out_channels, skip, **common)
        else:
            continue
        model.set_submodule(name, found)


def _corner(tensor: Tensor, shape: torch.Size) -> Tensor:
    """The part of `tensor` that has this shape: all of it, but where a convolution was widened."""
    return tensor[tuple(slice(size) for size in shape)]
