"""Evaluate a model that fairbench did not train, and summarise the outcomes per class."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fairbench.core.errors import ConfigError
from fairbench.core.files import make_folder, write_json
from fairbench.core.identity import digest, digest_bytes
from fairbench.core.lease import hold_lease
from fairbench.data.images import ImageSet, load_images
from fairbench.data.manifest import manifest_of
from fairbench.evaluation.external_checkpoint import digest_weights, read_checkpoint
from fairbench.metrics.classwise import (
    average_accuracy,
    class_accuracy,
    class_count,
    class_hits,
    require_images,
    worst_class_accuracy,
)
from fairbench.metrics.guessing import guessing
from fairbench.records.outcomes import read_outcomes
from fairbench.records.progress import Progress
from fairbench.records.results_folder import ResultsFolder
from fairbench.records.run_folder import LEASE, OutcomeFiles, outcome_name
from fairbench.registry import AttackEntry, DatasetEntry, Registry
from fairbench.registry.attacks import REFERENCE, require_possible
from fairbench.registry.fields import identity_settings
from fairbench.runner.device import choose_device, describe_device
from fairbench.runner.evaluating import evaluate_into
from fairbench.runner.external_checkpoint import (
    Architecture,
    from_file,
    from_zoo,
    load_foreign,
    normalised,
    registered,
    try_out,
)
from fairbench.runner.provenance import now, versions

ZOO = "robustbench:"
MODEL_FILE = re.compile(r".*\.py(:.*)?")


@dataclass(frozen=True)
class AttackSummary:
    """Accuracies in [0, 1], and what the attack cost: passes of single images, and seconds."""

    average: float
    worst: float
    classes: dict[str, float]
    forward: int
    backward: int
    seconds: float


@dataclass(frozen=True)
class Agreement:
    """An attack and the reference package's: images with the same verdict, and those that only one breaks."""

    same: int
    only_this: int
    only_reference: int


@dataclass(frozen=True)
class ExternalEvaluation:
    """What an evaluation found. `folder` has the outcomes; `attacks`: by name, "clean" first.

    `findings`: warnings about the model or an attack. `notes`: which weights were taken.
    `agreement`: of attacks that were also run by the reference package.
    """

    folder: Path
    num_images: int
    attacks: dict[str, AttackSummary]
    findings: tuple[str, ...]
    agreement: dict[str, Agreement]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What `evaluate --json` prints."""
        return {
            "folder": str(self.folder),
            "attacks": {name: asdict(summary) for name, summary in self.attacks.items()},
            "findings": list(self.findings),
            "notes": list(self.notes),
            "agreement": {name: asdict(agreement) for name, agreement in self.agreement.items()},
        }


def evaluate_model(
    model: str,
    checkpoint: Path | None,
    dataset: str,
    attacks: Mapping[str, AttackEntry],
    registry: Registry,
    *,
    data_root: Path,
    results: Path,
    device: str = "auto",
    per_class: int | None = None,
    key: str | None = None,
    normalize: str | None = None,
    progress: Callable[[str, Progress], None] = lambda name, progress: None,
) -> ExternalEvaluation:
    """Evaluate a model without an attack and under each of `attacks`.

    model: a name of the registry, FILE.py:FUNCTION, or robustbench:NAME. checkpoint: its weights; None when
    the function of a file returns them. key: which of several weights in it. normalize: a normalisation
    before the model, as `parse_normalisation` reads it. per_class: only the first images of each class. An
    attack whose outcomes are in the results folder is not run again. Raises UnknownNameError,
    ConfigError, CheckpointError and DataError.
    """
    images = registry.get("dataset", dataset, asked_by=f"--datasets {dataset}")
    checkpoint, architecture = find_architecture(model, checkpoint, dataset, registry)
    return evaluate_checkpoint(
        checkpoint,
        architecture,
        images,
        {"clean": None, **attacks},
        data_root=data_root,
        results=results,
        device_name=device,
        subset_per_class=per_class,
        key=key,
        normalize=normalize,
        progress=progress,
    )


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
    key: str | None = None,
    normalize: str | None = None,
    progress: Callable[[str, Progress], None],
) -> ExternalEvaluation:
    """Evaluate the weights in `path` under each of `attacks`, unless the outcomes are in the results folder.

    Without a `path` the model keeps the weights that its architecture gives it. Raises CheckpointError,
    DataError and ConfigError.
    """
    num_classes = (manifest_of(data_root, dataset.name, dataset.reader) or dataset).num_classes
    require_possible((each for each in attacks.values() if each is not None), num_classes, dataset.name)
    if path is None and key is not None:
        raise ConfigError(
            f"--key {key} chooses weights in a checkpoint, and none is given.",
            hint=f"name it: fairbench evaluate CHECKPOINT --key {key} ...",
        )
    checkpoint = None if path is None else read_checkpoint(path)
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
    chosen = None
    if checkpoint is None:
        stem, source = architecture.name, digest_weights(model.state_dict())
    else:
        chosen = load_foreign(model, checkpoint, architecture, key=key)
        stem, source = checkpoint.path.stem, digest_bytes(checkpoint.path.read_bytes())
    model, notes = normalised(model, chosen, normalize, images.image_shape[0])
    model.to(device)
    try_out(model, images)
    given = {name: value for name, value in (("key", key), ("normalize", normalize)) if value is not None}
    folder = _evaluation_folder(results, stem, source, architecture, dataset, images, given)
    summaries: dict[str, AttackSummary] = {}
    correct: dict[str, NDArray[np.bool_]] = {}
    findings: list[str] = []
    for name, about, rows in _evaluated(folder, model, images, attacks, progress):
        summaries[name], correct[name] = summarise(rows, images.classes, about), rows["correct"]
        findings += [f"{name}: {finding['text']}" for finding in about.get("health", ())]
        if attacks[name] is None:
            findings += guessing(rows, images.classes, normalize is None)
    both = {name: f"{name}{REFERENCE}" for name in correct if f"{name}{REFERENCE}" in correct}
    return ExternalEvaluation(
        folder=folder,
        num_images=len(images),
        attacks=summaries,
        findings=tuple(findings),
        notes=(*(chosen.notes(checkpoint.path.name) if chosen and checkpoint else ()), *notes),
        agreement={name: agreement(correct[name], correct[other]) for name, other in both.items()},
    )


def _evaluated(
    folder: Path,
    model: torch.nn.Module,
    images: ImageSet,
    attacks: Mapping[str, AttackEntry | None],
    progress: Callable[[str, Progress], None],
) -> Iterator[tuple[str, dict[str, Any], NDArray[Any]]]:
    """Name, description and outcomes of each attack; those in `folder` are not made again."""
    with hold_lease(folder / LEASE) as lease:
        for name, attack in attacks.items():
            key = "clean" if attack is None else outcome_name(name, digest(identity_settings(attack), 8))
            files, show = OutcomeFiles(folder / f"{key}.npy"), partial(progress, name)
            line = evaluate_into(files, model, images, attack, progress=show, check=lease.check)
            yield name, line["about"], read_outcomes(files.rows)


def find_architecture(
    model: str, checkpoint: Path | None, dataset: str, registry: Registry
) -> tuple[Path | None, Architecture]:
    """The weights' file and the network that they are for. Raises UnknownNameError or ConfigError."""
    if MODEL_FILE.fullmatch(model):
        return checkpoint, from_file(model)
    entry = None
    if not model.startswith(ZOO):
        entry = registry.get("model", model, asked_by=f"--models {model}")
    if checkpoint is None:
        raise ConfigError(
            f"--models {model} is an architecture without weights.",
            hint="name the checkpoint: fairbench evaluate CHECKPOINT --models ...\n"
            "only a function may return a model with weights: --models FILE.py:FUNCTION",
        )
    if entry is None:
        return from_zoo(model.removeprefix(ZOO), dataset, checkpoint)
    return checkpoint, registered(entry)


def summarise(rows: NDArray[Any], classes: tuple[str, ...], about: Mapping[str, Any]) -> AttackSummary:
    """The accuracies of one attack's outcomes `rows` (N,). Raises EmptyClassError for a class without images.

    about: its passes by stage.
    """
    images = class_count(rows["label"], len(classes))
    require_images(images, classes)
    hits = class_hits(rows["correct"], rows["label"], len(classes))
    by_class = class_accuracy(hits, images)
    stages = about.get("stages", ())
    return AttackSummary(
        average=float(average_accuracy(hits, images)),
        worst=float(worst_class_accuracy(by_class)),
        classes=dict(zip(classes, map(float, by_class), strict=True)),
        forward=sum(stage["forward"] for stage in stages),
        backward=sum(stage["backward"] for stage in stages),
        seconds=sum(stage["seconds"] for stage in stages),
    )


def agreement(own: NDArray[np.bool_], reference: NDArray[np.bool_]) -> Agreement:
    """How the verdicts of an attack, correct (N,), agree with those of the reference package."""
    return Agreement(
        same=int((own == reference).sum()),
        only_this=int((~own & reference).sum()),
        only_reference=int((own & ~reference).sum()),
    )


def _evaluation_folder(
    results: Path,
    stem: str,
    source: str,
    architecture: Architecture,
    dataset: DatasetEntry,
    images: ImageSet,
    given: Mapping[str, str],
) -> Path:
    """The folder of the outcomes of these weights (digest `source`) on these images, with evaluation.json.

    given: options that change the model, as they were written.
    """
    pixels, labels = images.images.cpu().numpy().tobytes(), images.labels.cpu().numpy().tobytes()
    what = {
        "checkpoint": source,
        "model": architecture.identity,
        "images": digest_bytes(pixels + labels),
        **given,
    }
    folder = make_folder(ResultsFolder(results).evaluations / f"{stem[:40]}.{digest(what)}")
    facts = {"dataset": dataset.name, "versions": versions(), "device": describe_device(images.device)}
    write_json(folder / "evaluation.json", {"schema": 1, **what, **facts, "time": now()})
    return folder
