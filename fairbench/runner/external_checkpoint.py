"""Networks that no run made: of the registry, of a file with a function, and of the RobustBench zoo."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from fairbench.attacks.frozen import frozen
from fairbench.core.errors import CheckpointError, ConfigError, FairbenchError
from fairbench.core.home import expanded
from fairbench.core.identity import digest_bytes
from fairbench.data.images import ImageSet, to_unit
from fairbench.evaluation.checkpoint_layout import ChosenWeights, choose_weights, contents, fitting_parts
from fairbench.evaluation.external_checkpoint import Checkpoint
from fairbench.evaluation.health import require_logits
from fairbench.models.build import build_model
from fairbench.models.checkpoints import OTHER, load_weights
from fairbench.models.normalized import Normalized, parse_normalisation
from fairbench.models.wideresnet import UNUSED_PREFIXES
from fairbench.models.zoo import CONSTANTS, zoo_file, zoo_model
from fairbench.planning.resolve import model_identity
from fairbench.registry import ModelEntry, load_registry

BUILDER = "a model file has a function (num_classes, image_shape) -> torch.nn.Module"


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint's weights belong in; `identity` is part of the evaluation folder's name."""

    identity: str
    build: Callable[[int, tuple[int, int, int]], nn.Module]
    constants: tuple[str, ...] = ()  # tensors that the architecture sets when the checkpoint lacks them
    name: str = ""  # of the folder, for a model without a checkpoint


def registered(entry: ModelEntry) -> Architecture:
    """A model of the registry."""
    known = ":".join(model_identity(entry.target).values())  # the content of a file, not only its place
    return Architecture(known, partial(build_model, entry.target, seed=0))


def from_zoo(name: str, dataset: str, place: Path) -> tuple[Path, Architecture]:
    """The weights' file and the architecture of the RobustBench zoo's model `name` for `dataset`.

    `place` is that file, or a folder of models as robustbench lays it out. The network is built at once:
    a wrong name costs no time.
    """
    path, threat = zoo_file(place, name, dataset) if place.is_dir() else (place, None)
    model = zoo_model(name, dataset, threat)
    return path, Architecture(f"robustbench:{name}", lambda num_classes, image_shape: model, CONSTANTS)


def from_file(target: str) -> Architecture:
    """The model that the function of FILE.py:function builds; it may bring its own weights.

    Raises ConfigError when there is no such file or it names no function.
    """
    place, _, function = target.rpartition(":")
    path = expanded(place or target)
    if not function.isidentifier() or path.suffix != ".py":
        raise ConfigError(
            f"--models {target} names no function of the file.", hint=f"write {path}:build; {BUILDER}"
        )
    if not path.is_file():
        raise ConfigError(f"there is no file {path}, which --models names.", hint=BUILDER)
    identity = f"file:{digest_bytes(path.read_bytes())}:{function}"
    return Architecture(identity, partial(_build_from_file, f"{path}:{function}"), name=path.stem)


def _build_from_file(target: str, num_classes: int, image_shape: tuple[int, int, int]) -> nn.Module:
    try:
        return build_model(target, num_classes, image_shape, seed=0)
    except FairbenchError as error:
        raise ConfigError(error.message, hint=BUILDER) from error
    except Exception as error:  # the file may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise ConfigError(
            f"{target} does not build a model for {num_classes} classes and images {image_shape}: {reason}",
            hint=f"{BUILDER}\nsee where: fairbench --debug evaluate ...",
        ) from error


def load_foreign(
    model: nn.Module, checkpoint: Checkpoint, architecture: Architecture, *, key: str | None = None
) -> ChosenWeights:
    """The weights of `checkpoint` that were loaded into `model`, a network of `architecture`.

    key: which of several in the file. Raises CheckpointError on a misfit, with what is in the file.
    """
    own = model.state_dict()
    chosen = choose_weights(
        checkpoint, own, key=key, optional=architecture.constants, ignored=UNUSED_PREFIXES
    )
    used = {n: v for n, v in chosen.weights.items() if n in own or not n.startswith(UNUSED_PREFIXES)}
    constants = {n: own[n] for n in architecture.constants if n in own}
    try:
        load_weights(model, constants | used, str(checkpoint.path))
    except CheckpointError as error:
        names = networks_that_fit(checkpoint) if OTHER in error.message else []
        hint = f"its names are those of: --model {' or '.join(names)}" if names else error.hint
        raise CheckpointError(error.message, hint=f"{hint}\n{contents(checkpoint)}") from error
    return chosen


def networks_that_fit(checkpoint: Checkpoint) -> list[str]:
    """Names of the networks of fairbench whose tensors have the names of those in the file."""
    fitting = []
    for entry in load_registry(entry_points=False).models.values():
        expected = build_model(entry.target, 10, (3, 32, 32), seed=0).state_dict()  # only names count
        if any(fitting_parts(checkpoint, expected, set(), UNUSED_PREFIXES)):
            fitting.append(entry.name)
    return fitting


def normalised(
    model: nn.Module, chosen: ChosenWeights | None, wish: str | None, channels: int
) -> tuple[nn.Module, list[str]]:
    """The model behind the normalisation that the user wishes, else the one in the file; and notes on it.

    Raises ConfigError for a wish that is no normalisation, and CheckpointError for one in the file that does
    not fit the images.
    """
    if wish is not None:
        mean, std = parse_normalisation(wish, channels)
        return Normalized(model, mean, std), [f"images are normalised: mean {mean}, deviation {std}"]
    if chosen is None or chosen.normalisation is None:
        return model, []
    mean, std = (tuple(round(value, 6) for value in tensor.tolist()) for tensor in chosen.normalisation)
    if len(mean) not in (1, channels) or len(std) != len(mean):
        raise CheckpointError(
            f"the file has a normalisation for {len(mean)} channels, the images have {channels}.",
            hint="give it yourself: --normalize MEAN,.../STD,...",
        )
    note = f"images are normalised by the mean {mean} and deviation {std} in the file"
    mean, std = (each * channels if len(each) == 1 else each for each in (mean, std))
    return Normalized(model, mean, std), [f"{note}; --normalize none turns this off"]


def try_out(model: nn.Module, images: ImageSet) -> None:
    """Raise ConfigError unless the model gives a logit for each class of the first two images."""
    try:
        with frozen(model), torch.no_grad():
            outputs = model(to_unit(images.images[:2]))
    except Exception as error:  # the model may raise anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise ConfigError(
            f"the model fails on images {images.image_shape}: {reason}",
            hint="is this the data set that it was made for? see where: fairbench --debug evaluate ...",
        ) from error
    require_logits(outputs, 2, images.num_classes)
