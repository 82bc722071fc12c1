"""A network behind a normalisation: it takes images in [0, 1] and passes on (x - mean) / std."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fairbench.core.errors import ConfigError

NORMALISATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    "cifar10-kuangliu": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "half": ((0.5,), (0.5,)),
    "none": ((0.0,), (1.0,)),
}
"""Means and standard deviations per channel that published programs use, for images in [0, 1].

cifar10 is that of fast_adversarial, robust_overfitting, AWP and CFA; cifar10-kuangliu that of pytorch-cifar.
"""


class Normalized(nn.Module):
    """`model` on normalised images. Its parameters keep their names, with `model.` before them."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The outputs of the network for images x (B, ch, H, W) in [0, 1]."""
        return self.model((x - self.mean.to(x.dtype)) / self.std.to(x.dtype))


def parse_normalisation(text: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std), one number per channel: of a name, or of numbers "0.49,0.48,0.45/0.25,0.24,0.26".

    A single mean and standard deviation count for all channels. Raises ConfigError.
    """
    if text in NORMALISATIONS:
        mean, std = NORMALISATIONS[text]
    else:
        try:
            numbers = [float(part) for part in re.split(r"[\s,;:/()\[\]]+", text.strip(" ()[]"))]
        except ValueError:
            raise ConfigError(
                f"--normalize {text}: no such name, and not numbers.", hint=_usage(channels)
            ) from None
        half = len(numbers) // 2
        mean, std = tuple(numbers[:half]), tuple(numbers[half:])
    if len(mean) == len(std) == 1:
        mean, std = mean * channels, std * channels
    if len(mean) != channels or len(std) != channels:
        raise ConfigError(
            f"--normalize {text}: {len(mean)} means and {len(std)} standard deviations for images with "
            f"{channels} channels.",
            hint=_usage(channels),
        )
    if not all(0 < value < 4 for value in std) or not all(-2 < value < 2 for value in mean):
        raise ConfigError(
            f"--normalize {text}: means and standard deviations are in units of images in [0, 1].",
            hint=f"divide values of 0..255 by 255; {_usage(channels)}",
        )
    return mean, std


def _usage(channels: int) -> str:
    numbers = ",".join(["0.5"] * channels)
    names = ", ".join(NORMALISATIONS)
    return f"expected {names};\nor {channels} means, a slash and {channels} deviations: {numbers}/{numbers}"
