"""WideResNet-28-10 and WideResNet-34-10 for 32x32 images, without dropout.

Source     Zagoruyko, Komodakis (2016), arXiv 1605.07146, in the form of the TRADES and DAFA programs.
Init       Convolutions N(0, 2 / (k k out)), BatchNorm 1 and 0, bias of the linear layer 0.
Deviates   Those programs have a duplicate first block (`sub_block1`) that no forward pass uses; it is not
           built here. Their checkpoints contain it: `UNUSED_PREFIXES`.
Sizes      32x32 only: no paper reports 64x64, where the head of the programs fails.
"""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from fairbench.core.errors import ConfigError
from fairbench.models.build import halve, stage

WIDTHS = (160, 320, 640)  # 16, 32, 64 times 10
STRIDES = (1, 2, 2)
STEM_WIDTH = 16
WINDOW = 8
UNUSED_PREFIXES = ("sub_block1.",)


def wrn_28_10(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """WideResNet-28-10 for images (channels, 32, 32). Raises ConfigError when the last map is not 8x8."""
    return WideResNet(num_classes, image_shape, depth=28)


def wrn_34_10(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """WideResNet-34-10, as `wrn_28_10`."""
    return WideResNet(num_classes, image_shape, depth=34)


class WideBlock(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution, twice; a projecting shortcut starts from the first activation."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.convShortcut: nn.Conv2d | None = None  # named as in the programs' checkpoints
        if width_in != width:
            self.convShortcut = nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Activations of the block: (B, width_in, H, W) -> (B, width, H/stride, W/stride)."""
        active = F.relu(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + shortcut


class WideStage(nn.Module):
    """Blocks of one width, under the name `layer`."""

    def __init__(self, width_in: int, width: int, stride: int, num_blocks: int) -> None:
        super().__init__()
        self.layer = stage(WideBlock, width_in, width, stride, num_blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Activations of the stage."""
        return self.layer(x)


class WideResNet(nn.Module):
    """Three stages of (depth - 4) / 6 blocks; maps (B, channels, 32, 32) in [0, 1] to logits (B, C)."""

    def __init__(self, num_classes: int, image_shape: tuple[int, int, int], *, depth: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        if (halve(height, 2), halve(width, 2)) != (WINDOW, WINDOW):
            raise ConfigError(
                f"wrn-{depth}-10 takes 32x32 images, not {height}x{width}: its last map must be 8x8.",
                hint="use resnet18 or preactresnet18 (28x28, 32x32, 64x64, 96x96) or cnn-small (any size)",
            )
        self.conv1 = nn.Conv2d(channels, STEM_WIDTH, 3, padding=1, bias=False)
        self.block1, self.block2, self.block3 = (
            WideStage(width_in, width_out, stride, (depth - 4) // 6)
            for width_in, width_out, stride in zip((STEM_WIDTH, *WIDTHS[:-1]), WIDTHS, STRIDES, strict=True)
        )
        self.bn1 = nn.BatchNorm2d(WIDTHS[-1])
        self.fc = nn.Linear(WIDTHS[-1], num_classes)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C)."""
        out = self.block3(self.block2(self.block1(self.conv1(x))))
        return self.fc(F.avg_pool2d(F.relu(self.bn1(out)), WINDOW).flatten(1))


def initialise(layer: nn.Module) -> None:
    """Initial weights of one layer, as in the original program of wide residual networks."""
    if isinstance(layer, nn.Conv2d):
        fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels
        nn.init.normal_(layer.weight, 0.0, math.sqrt(2.0 / fan_out))
    elif isinstance(layer, nn.Linear):
        nn.init.zeros_(layer.bias)
