"""A faster copy of a network in training, for attacks in eval mode."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from fairbench.models.folding import FOLDABLE, fold, freeze, pairs_to_fold

WIDTH = 8  # channels that tensor cores process at a time, in bfloat16 and TF32


class FoldedTwin:
    """A folded copy of a network in training, with the weights of the last `refresh`.

    `network` is in eval mode and its parameters take no gradient. Convolutions and linear layers have weights
    in `dtype`, all other modules keep theirs. Raises any error that copying the network raises.
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
            _replace_convolutions(self.network)
        freeze(self.network, channels_last=channels_last and example.dim() == 4)
        if dtype is not None:
            for module in self.network.modules():
                if isinstance(module, (*FOLDABLE, nn.Linear)):
                    module.to(dtype)
        folded = {f"{name}." for pair in self.pairs for name in pair}
        source = model.state_dict(keep_vars=True)
        self._copied = [
            (_corner(value, source[name].shape), source[name])
            for name, value in self.network.state_dict(keep_vars=True).items()
            if not any(name.startswith(prefix) for prefix in folded)
        ]

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the current weights and BatchNorm statistics of the original network."""
        for conv_name, norm_name in self.pairs:
            conv: Any = self.model.get_submodule(conv_name)
            norm: Any = self.model.get_submodule(norm_name)
            fused: Any = self.network.get_submodule(conv_name)
            weight, bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )
            _corner(fused.weight, weight.shape).copy_(weight)
            fused.bias.copy_(bias)
        for copied, current in self._copied:
            copied.copy_(current)


class WideConv2d(nn.Conv2d):
    """A convolution whose input may have fewer channels than its weights; missing channels are zeros."""

    def forward(self, input: Tensor) -> Tensor:
        """The output of the original convolution."""
        return super().forward(F.pad(input, (0, 0, 0, 0, 0, self.in_channels - input.shape[1])))


class SkippingConv2d(nn.Conv2d):
    """A strided 1x1 convolution: it drops the skipped pixels first, then has stride 1."""

    def __init__(self, in_channels: int, out_channels: int, skip: tuple[int, int], **settings: Any) -> None:
        super().__init__(in_channels, out_channels, 1, **settings)
        self.skip = skip

    def forward(self, input: Tensor) -> Tensor:
        """The output of the original convolution."""
        rows, columns = self.skip
        return super().forward(input[:, :, ::rows, ::columns])


def suits_tensor_cores(example: Tensor) -> bool:
    """Whether the device of these images has tensor cores."""
    return example.is_cuda


def _replace_convolutions(model: nn.Module) -> None:
    """Replace convolutions that have only slow GPU kernels: with few channels, or 1x1 with a stride."""
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
        replacement: nn.Conv2d
        if module.in_channels < WIDTH:
            shape: Any = module.kernel_size, module.stride
            replacement = WideConv2d(WIDTH, module.out_channels, *shape, **common)
            nn.init.zeros_(replacement.weight)
        elif module.kernel_size == (1, 1) and module.stride != (1, 1) and module.padding == (0, 0):
            skip: Any = module.stride
            replacement = SkippingConv2d(module.in_channels, module.out_channels, skip, **common)
        else:
            continue
        model.set_submodule(name, replacement)


def _corner(tensor: Tensor, shape: torch.Size) -> Tensor:
    """The first entries of `tensor` along each axis, in this shape; all of it unless it was widened."""
    return tensor[tuple(slice(size) for size in shape)]
