"""Networks of the package timm by name: `timm:NAME`, or the target fairbench.models.timm_networks:NAME.

timm is an optional dependency. Networks have random weights (nothing is downloaded) and take images in
[0, 1]; weights that were trained on normalised images need a normalisation before them. A network that takes
the size of its images as a setting (vision transformers) is built for that of the data set.
"""

import importlib.util
import warnings
from collections.abc import Callable
from functools import partial

from torch import nn

from fairbench.core.errors import ConfigError, EnvironmentFault, suggest

Builder = Callable[[int, tuple[int, int, int]], nn.Module]


def __getattr__(name: str) -> Builder:
    """The function that builds timm's network `name`, as other modules of networks have one."""
    if name.startswith("_"):
        raise AttributeError(name)
    return partial(timm_network, name)


def timm_network(name: str, num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    """timm's network `name` for images (channels, height, width), with random weights.

    Raises EnvironmentFault without timm, and ConfigError for a name that it lacks or that cannot be built.
    """
    if importlib.util.find_spec("timm") is None:
        raise EnvironmentFault(
            f"the network timm:{name} needs the package timm.", hint="pip install 'fairbench-at[timm]'"
        )
    channels, height, width = image_shape
    with warnings.catch_warnings(action="ignore"):  # of deprecated names
        import timm

        if not timm.is_model(name):
            close = suggest(name, timm.list_models())
            raise ConfigError(
                f"timm has no network called {name!r}.",
                hint=f"did you mean: timm:{close}" if close else "see all: timm.list_models()",
            )
        build = partial(timm.create_model, name, pretrained=False, num_classes=num_classes, in_chans=channels)
        try:
            try:
                network = build(img_size=(height, width))
            except TypeError:  # most networks take images of any size
                network = build()
        except Exception as error:  # a network may refuse a size or a number of channels by any class
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise ConfigError(
                f"timm:{name} cannot be built for {num_classes} classes and images {image_shape}: {reason}",
                hint="choose another network, or another size of the images",
            ) from error
    assert isinstance(network, nn.Module)
    return network
