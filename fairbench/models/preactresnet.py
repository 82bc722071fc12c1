"""PreActResNet-18: BatchNorm and ReLU before each convolution, and once more before the pooling.

Source     He, Zhang, Ren, Sun (2016), arXiv 1603.05027; stem and head of the DAFA and CFA programs.
Variants   The programs of FRL and WAT have no BatchNorm and ReLU (`bn`) before the pooling. In the program of
           fast_adversarial (Wong, Rice, Kolter, arXiv 2001.03994) a projecting shortcut starts from the input
           of the block, not from its first activation; the names of its weights are the same.
Head       Average pooling with window 4: on 64x64 images the linear layer has 2048 inputs.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from fairbench.models.build import pooled_shape, stage

WIDTHS = (64, 128, 256, 512)
STRIDES = (1, 2, 2, 2)
BLOCKS_PER_STAGE = 2
WINDOW = 4


def preactresnet18(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """PreActResNet-18 for images (channels, height, width). Raises ConfigError for sizes it cannot pool."""
    return PreActResNet(num_classes, image_shape)


def preactresnet18_no_final_norm(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """The PreActResNet-18 of FRL's and WAT's programs: no BatchNorm and ReLU before the pooling."""
    return PreActResNet(num_classes, image_shape, final_norm=False)


def preactresnet18_input_shortcut(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """The PreActResNet-18 of fast_adversarial: projecting shortcuts start from the input of their block."""
    return PreActResNet(num_classes, image_shape, block=InputShortcutBlock)


class PreActBlock(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution, twice; a projecting shortcut starts from the first activation."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Activations of the block: (B, width_in, H, W) -> (B, width, H/stride, W/stride)."""
        active = F.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(self.shortcut_source(x, active))
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + shortcut

    def shortcut_source(self, x: Tensor, active: Tensor) -> Tensor:
        """What a projecting shortcut starts from: the input x of the block, or its first activation."""
        return active


class InputShortcutBlock(PreActBlock):
    """The same with projecting shortcuts from the input of the block."""

    def shortcut_source(self, x: Tensor, active: Tensor) -> Tensor:
        """The input of the block."""
        return x


class PreActResNet(nn.Module):
    """Four stages of two blocks; `forward` maps (B, channels, H, W) in [0, 1] to logits (B, C)."""

    def __init__(
        self,
        num_classes: int,
        image_shape: tuple[int, int, int],
        *,
        block: type[PreActBlock] = PreActBlock,
        final_norm: bool = True,
    ) -> None:
        super().__init__()
        rows, columns = pooled_shape("preactresnet18", image_shape, halvings=3, window=WINDOW)
        self.conv1 = nn.Conv2d(image_shape[0], WIDTHS[0], 3, padding=1, bias=False)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            stage(block, width_in, width, stride, BLOCKS_PER_STAGE)
            for width_in, width, stride in zip((WIDTHS[0], *WIDTHS[:-1]), WIDTHS, STRIDES, strict=True)
        )
        self.bn = nn.BatchNorm2d(WIDTHS[-1]) if final_norm else None
        self.linear = nn.Linear(WIDTHS[-1] * rows * columns, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C)."""
        out = self.layer4(self.layer3(self.layer2(self.layer1(self.conv1(x)))))
        active = out if self.bn is None else F.relu(self.bn(out))
        return self.linear(F.avg_pool2d(active, WINDOW).flatten(1))
