"""A small convolutional network for small images and tests on a CPU."""

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64)
STRIDES = (2, 2, 1)  # 8x8 digits give 2x2 maps, so that BatchNorm accepts a batch of one image


def cnn_small(num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """Three 3x3 convolutions (16-32-64), BatchNorm, global average pooling, linear; for any image size."""
    return SmallCnn(num_classes, image_shape)


class SmallCnn(nn.Module):
    """`forward` maps (B, channels, H, W) in [0, 1] to logits (B, C)."""

    def __init__(self, num_classes: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width, stride in zip((image_shape[0], *WIDTHS[:-1]), WIDTHS, STRIDES, strict=True):
            layers += [
                nn.Conv2d(width_in, width, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(WIDTHS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, C)."""
        return self.fc(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))
