"""Evaluate a checkpoint that no run made, and remember the outcomes."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from fairbench.core.errors import RecordError
from fairbench.core.files import make_folder, write_json
from fairbench.core.identity import digest, digest_bytes
from fairbench.data.images import load_images
from fairbench.evaluation.evaluate import evaluate
from fairbench.evaluation.foreign import read_checkpoint
from fairbench.models.build import build_model
from fairbench.models.checkpoints import load_weights
from fairbench.models.wideresnet import UNUSED_PREFIXES
from fairbench.models.zoo import CONSTANTS, zoo_model
from fairbench.records.outcomes import read_outcomes, write_outcomes
from fairbench.registry import AttackEntry, DatasetEntry, ModelEntry
from fairbench.runner.device import choose_device, describe_device
from fairbench.runner.provenance import now, versions

FOLDER = "evaluations"


@dataclass(frozen=True)
class Architecture:
    """What a checkpoint's weights belong in; `identity` is part of the evaluation folder's name."""

    identity: str
    build: Callable[[int, tuple[int, int, int]], nn.Module]
    constants: tuple[str, ...] = ()  # tensors that the architecture sets when the checkpoint lacks them


def registered(entry: ModelEntry) -> Architecture:
    """A model of the registry."""
    return Architecture(entry.target, partial(build_model, entry.target, seed=0))


def from_zoo(name: str, dataset: str) -> Architecture:
    """The RobustBench zoo's model `name` for `dataset`, built at once: a wrong name costs no time."""
    model = zoo_model(name, dataset)
    return Architecture(f"robustbench:{name}", lambda num_classes, image_shape: model, CONSTANTS)


def evaluate_checkpoint(
    path: Path,
    architecture: Architecture,
    dataset: DatasetEntry,
    attacks: dict[str, AttackEntry | None],
    *,
    data_root: Path,
    results: Path,
    device_name: str,
    subset_per_class: int | None,
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """Outcomes files by attack name, with class names; an attack that is on disk already is not run again.

    Raises the errors of a foreign file: CheckpointError, DataError, ConfigError.
    """
    weights = read_checkpoint(path)
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
    own = model.state_dict()
    used = {n: value for n, value in weights.items() if n in own or not n.startswith(UNUSED_PREFIXES)}
    constants = {n: own[n] for n in architecture.constants if n in own}
    load_weights(model, constants | used, str(path))
    model.to(device)
    what = {
        "checkpoint": digest_bytes(path.read_bytes()),
        "model": architecture.identity,
        "images": digest_bytes(images.images.cpu().numpy().tobytes() + images.labels.cpu().numpy().tobytes()),
    }
    folder = make_folder(results / FOLDER / f"{path.stem[:40]}.{digest(what)}")
    write_json(
        folder / "evaluation.json",
        {
            "schema": 1,
            **what,
            "dataset": dataset.name,
            "versions": versions(),
            "device": describe_device(device),
            "time": now(),
        },
    )
    files = {}
    for name, attack in attacks.items():
        settings = None if attack is None else attack.model_dump(mode="json")
        file = folder / ("clean.npy" if attack is None else f"{name}.{digest(settings, 8)}.npy")
        try:
            read_outcomes(file)
        except RecordError:
            found = evaluate(model, images, attack, progress=partial(progress, name))
            write_outcomes(file, found.label, found.prediction, found.correct, **found.columns)
        files[name] = file
    return {"folder": folder, "files": files, "classes": images.classes}
