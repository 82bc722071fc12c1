"""Evaluate a model that fairbench did not train, and summarise the outcomes per class."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairbench.core.errors import ConfigError
from fairbench.metrics.classwise import (
    average_accuracy,
    class_accuracy,
    class_count,
    class_hits,
    require_images,
    worst_class_accuracy,
)
from fairbench.records.outcomes import read_outcomes
from fairbench.records.progress import Progress
from fairbench.registry import AttackEntry, Registry
from fairbench.registry.attacks import REFERENCE
from fairbench.runner.external_checkpoint import (
    Architecture,
    evaluate_checkpoint,
    from_file,
    from_zoo,
    registered,
)

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

    `findings`: warnings about an attack. `agreement`: of attacks that were also run by the reference package.
    """

    folder: Path
    num_images: int
    attacks: dict[str, AttackSummary]
    findings: tuple[str, ...]
    agreement: dict[str, Agreement]

    def to_json(self) -> dict[str, Any]:
        """What `evaluate --json` prints."""
        return {
            "folder": str(self.folder),
            "attacks": {name: asdict(summary) for name, summary in self.attacks.items()},
            "findings": list(self.findings),
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
    progress: Callable[[str, Progress], None] = lambda name, progress: None,
) -> ExternalEvaluation:
    """Evaluate a model without an attack and under each of `attacks`.

    model: a name of the registry, FILE.py:FUNCTION, or robustbench:NAME. checkpoint: its weights; None when
    the function of a file returns them. per_class: only the first images of each class. An attack whose
    outcomes are in the results folder is not run again. Raises UnknownNameError, ConfigError, CheckpointError
    and DataError.
    """
    images = registry.get("dataset", dataset, asked_by=f"--dataset {dataset}")
    checkpoint, architecture = find_architecture(model, checkpoint, dataset, registry)
    outcomes = evaluate_checkpoint(
        checkpoint,
        architecture,
        images,
        {"clean": None, **attacks},
        data_root=data_root,
        results=results,
        device_name=device,
        subset_per_class=per_class,
        progress=progress,
    )
    rows = {name: read_outcomes(file) for name, file in outcomes.files.items()}
    correct = {name: each["correct"] for name, each in rows.items()}
    return ExternalEvaluation(
        folder=outcomes.folder,
        num_images=len(rows["clean"]),
        attacks={
            name: summarise(each, outcomes.classes, outcomes.about[name]) for name, each in rows.items()
        },
        findings=tuple(
            f"{name}: {finding['text']}"
            for name, about in outcomes.about.items()
            for finding in about.get("health", ())
        ),
        agreement={
            name: agreement(correct[name], correct[f"{name}{REFERENCE}"])
            for name in correct
            if f"{name}{REFERENCE}" in correct
        },
    )


def find_architecture(
    model: str, checkpoint: Path | None, dataset: str, registry: Registry
) -> tuple[Path | None, Architecture]:
    """The weights' file and the network that they are for. Raises UnknownNameError or ConfigError."""
    if MODEL_FILE.fullmatch(model):
        return checkpoint, from_file(model)
    entry = None
    if not model.startswith(ZOO):
        entry = registry.get("model", model, asked_by=f"--model {model}")
    if checkpoint is None:
        raise ConfigError(
            f"--model {model} is an architecture without weights.",
            hint="name the checkpoint: fairbench evaluate CHECKPOINT --model ...\n"
            "only a function may return a model with weights: --model FILE.py:FUNCTION",
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
