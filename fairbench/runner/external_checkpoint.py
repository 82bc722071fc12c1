"""Evaluate a model that no run made, and remember the outcomes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fairbench.attacks.frozen import frozen
from fairbench.core.errors import ConfigError, FairbenchError
from fairbench.core.files import make_folder, write_json
from fairbench.core.identity import digest, digest_bytes
from fairbench.core.lease import hold_lease
from fairbench.data.images import ImageSet, load_images, to_unit
from fairbench.data.manifest import read_manifest
from fairbench.evaluation.external_checkpoint import digest_weights, read_checkpoint
from fairbench.evaluation.health import require_logits
from fairbench.models.build import build_model
from fairbench.models.checkpoints import load_weights
from fairbench.models.wideresnet import UNUSED_PREFIXES
from fairbench.models.zoo import CONSTANTS, zoo_file, zoo_model
from fairbench.planning.resolve import model_identity
from fairbench.records.progress import Progress
from fairbench.records.results_folder import ResultsFolder
from fairbench.records.run_folder import LEASE, OutcomeFiles, outcome_name
from fairbench.registry import AttackEntry, DatasetEntry, ModelEntry
from fairbench.registry.attacks import require_possible
from fairbench.registry.fields import identity_settings
from fairbench.runner.device import choose_device, describe_device
from fairbench.runner.evaluating import evaluate_into
from fairbench.runner.provenance import now, versions

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
    path = Path(place or target).expanduser()
    if not function.isidentifier() or path.suffix != ".py":
        raise ConfigError(
            f"--model {target} names no function of the file.", hint=f"write {path}:build; {BUILDER}"
        )
    if not path.is_file():
        raise ConfigError(f"there is no file {path}, which --model names.", hint=BUILDER)
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
    model: nn.Module, weights: Mapping[str, Tensor], architecture: Architecture, origin: str
) -> None:
    """Load `weights` of a checkpoint into a model of `architecture`. Raises CheckpointError on a misfit."""
    own = model.state_dict()
    used = {n: value for n, value in weights.items() if n in own or not n.startswith(UNUSED_PREFIXES)}
    constants = {n: own[n] for n in architecture.constants if n in own}
    load_weights(model, constants | used, origin)


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


@dataclass(frozen=True)
class CheckpointOutcomes:
    """The outcomes files of a checkpoint by attack, "clean" for none; about: passes and findings of each."""

    folder: Path
    classes: tuple[str, ...]
    files: Mapping[str, Path]
    about: Mapping[str, Mapping[str, Any]]


def evaluate_checkpoint(
    path: Path | None,
    architecture: Architecture,
    dataset: DatasetEntry,
    attacks: Mapping[str, AttackEntry | None],
    *,
    data_root: Path,
    results: Path,
    device_name: str,
    subset_per_class: int | None,
    progress: Callable[[str, Progress], None],
) -> CheckpointOutcomes:
    """Evaluate the weights in `path` under each of `attacks`, unless the outcomes are in the results folder.

    Without a `path` the model keeps the weights that its architecture gives it. Raises CheckpointError,
    DataError and ConfigError.
    """
    manifest = None if dataset.reader == "digits" else read_manifest(data_root, dataset.name)
    num_classes = (manifest or dataset).num_classes
    require_possible((each for each in attacks.values() if each is not None), num_classes, dataset.name)
    weights = None if path is None else read_checkpoint(path)
    device = choose_device(device_name)
    images = load_images(
        dataset.name,
        "test",
        root=data_root,
        device=device,
        reader=dataset.reader,
        subset_per_class=subset_per_class,
    )
    model = architecture.build(images.num_classes, images.image_shape)
    if path is None or weights is None:
        stem, source = architecture.name, digest_weights(model.state_dict())
    else:
        load_foreign(model, weights, architecture, str(path))
        stem, source = path.stem, digest_bytes(path.read_bytes())
    model.to(device)
    try_out(model, images)
    folder = _evaluation_folder(results, stem, source, architecture, dataset, images)
    files: dict[str, Path] = {}
    about: dict[str, Mapping[str, Any]] = {}
    with hold_lease(folder / LEASE) as lease:
        for name, attack in attacks.items():
            key = "clean" if attack is None else outcome_name(name, digest(identity_settings(attack), 8))
            files[name] = folder / f"{key}.npy"
            show, outcomes = partial(progress, name), OutcomeFiles(files[name])
            line = evaluate_into(outcomes, model, images, attack, progress=show, check=lease.check)
            about[name] = line["about"]
    return CheckpointOutcomes(folder, images.classes, files, about)


def _evaluation_folder(
    results: Path,
    stem: str,
    source: str,
    architecture: Architecture,
    dataset: DatasetEntry,
    images: ImageSet,
) -> Path:
    """The folder of the outcomes of these weights (digest `source`) on these images, with evaluation.json."""
    pixels, labels = images.images.cpu().numpy().tobytes(), images.labels.cpu().numpy().tobytes()
    what = {
        "checkpoint": source,
        "model": architecture.identity,
        "images": digest_bytes(pixels + labels),
    }
    folder = make_folder(ResultsFolder(results).evaluations / f"{stem[:40]}.{digest(what)}")
    facts = {"dataset": dataset.name, "versions": versions(), "device": describe_device(images.device)}
    write_json(folder / "evaluation.json", {"schema": 1, **what, **facts, "time": now()})
    return folder
