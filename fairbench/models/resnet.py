"""ResNet-18 as used in adversarial training: CIFAR stem, average pooling with window 4, linear.

Source     He, Zhang, Ren, Sun (2016), arXiv 1512.03385; stem and head of the TRADES and DAFA programs.
Head       On 64x64 images the pooled map is 2x2 and the linear layer has 2048 inputs (not global pooling).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from fairbench.models.build import pooled_shape, stage

WIDTHS = (64, 128, 256, 512)
STRIDES = (1, 2, 2, 2)
BLOCKS_PER_STAGE = 2
WINDOW = 4


def resnet18(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """ResNet-18 for images (channels, height, width). Raises ConfigError for sizes it cannot pool."""
    return ResNet(num_classes, image_shape)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each with BatchNorm, around a shortcut; ReLU after the sum."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Activations of the block: (B, width_in, H, W) -> (B, width, H/stride, W/stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """Four stages of two blocks; `forward` maps (B, channels, H, W) in [0, 1] to logits (B, C)."""

    def __init__(self, num_classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        rows, columns = pooled_shape("resnet18", image_shape, halvings=3, window=WINDOW)
        self.conv1 = nn.Conv2d(image_shape[0], WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            stage(ResidualBlock, width_in, width, stride, BLOCKS_PER_STAGE)
            for width_in, width, stride in zip((WIDTHS[0], *WIDTHS[:-1]), WIDTHS, STRIDES, strict=True)
        )
        self.linear = nn.Linear(WIDTHS[-1] * rows * columns, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C)."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return self.linear(F.avg_pool2d(out, WINDOW).flatten(1))
