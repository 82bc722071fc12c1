"""Build a model from its registry target, with reproducible initial weights; parts that networks share."""

from collections.abc import Callable

import torch
from torch import nn

from fairbench.core.errors import ConfigError
from fairbench.core.imports import load_object


def build_model(target: str, num_classes: int, image_shape: tuple[int, int, int], seed: int) -> nn.Module:
    """The model of `target` (module:function or file.py:function) on the CPU, with initial weights of `seed`.

    The weights depend on `seed` only. They do not depend on the device that is used later, and torch's global
    generators are not changed. Raises ConfigError when `target` cannot be imported, is not a function, or
    does not fit the images.
    """
    module_name, _, function_name = target.partition(":")
    if not module_name or not function_name:
        raise ConfigError(
            f"the model target {target!r} is not of the form module:function or file.py:function.",
            hint="for instance fairbench.models.resnet:resnet18",
        )
    try:
        build = load_object(target)
    except ImportError as error:
        raise ConfigError(
            f"the model target {target!r} cannot be imported: {error}.",
            hint="install the package that contains it, or correct models.<name>.target in registry.yaml",
        ) from error
    if not callable(build):
        raise ConfigError(
            f"{function_name!r} of {module_name} is not a function that builds a model.",
            hint="correct models.<name>.target in registry.yaml",
        )
    if num_classes < 2:
        raise ConfigError(f"a classifier needs at least 2 classes, not {num_classes}.")
    channels, height, width = image_shape
    if min(channels, height, width) < 1:
        raise ConfigError(
            f"image_shape must be (channels, height, width), each at least 1, not {image_shape}."
        )
    # Seeds the CPU generator only: torch.manual_seed would also reset the generators of accelerators.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        model = build(num_classes, (channels, height, width))
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"the model target {target!r} returned {type(model).__name__}, not a torch.nn.Module."
        )
    return model


def halve(size: int, times: int) -> int:
    """Height or width after `times` convolutions of stride 2 with a 3x3 kernel and padding 1."""
    for _ in range(times):
        size = (size + 1) // 2
    return size


def stage(
    block: Callable[[int, int, int], nn.Module], width_in: int, width: int, stride: int, num_blocks: int
) -> nn.Sequential:
    """`num_blocks` blocks (width_in, width, stride); the first one changes width and resolution."""
    rest = [
        block(width, width, 1) for _ in range(num_blocks - 1)
    ]  # built first: initial weights depend on it
    return nn.Sequential(block(width_in, width, stride), *rest)


def pooled_shape(
    model: str, image_shape: tuple[int, int, int], *, halvings: int, window: int
) -> tuple[int, int]:
    """Height and width of the last feature map after average pooling with `window`.

    Raises ConfigError when the size of the map is not a multiple of `window`: pixels would be lost.
    """
    height, width = (halve(size, halvings) for size in image_shape[1:])
    if height % window or width % window:
        raise ConfigError(
            f"{model} cannot take images of {image_shape[1]}x{image_shape[2]}: its last map is "
            f"{height}x{width}, which average pooling with window {window} does not tile.",
            hint="28x28, 32x32, 64x64 and 96x96 fit; for smaller images use the model cnn-small",
        )
    return height // window, width // window
