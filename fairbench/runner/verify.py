"""Check a record against its own weights: every number it rests on, one image at a time.

Nothing here searches. Clean verdicts are computed anew; each image that an ensemble broke is shown to the
network again, unfolded and in float32; PGD, whose images are not kept because their seed makes
them, is run again on the first images, or on all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fairbench.attacks.frozen import frozen
from fairbench.core.errors import CheckpointError, RecordError
from fairbench.core.files import read_json
from fairbench.core.identity import digest_bytes
from fairbench.data.images import ImageSet, to_unit
from fairbench.evaluation.evaluate import evaluate
from fairbench.evaluation.evidence import read_evidence
from fairbench.evaluation.verdicts import fooled_by, logits_of
from fairbench.plan.cells import read_cell, training_protocol
from fairbench.records.read import CLEAN, Evaluation, Record
from fairbench.registry import PgdAttack, read_attack
from fairbench.runner.device import choose_device
from fairbench.runner.worker import load_split, trained_model

FIRST = 64  # images that PGD is run on again unless all are asked for


@dataclass(frozen=True)
class Check:
    """One attack at a checkpoint: of `checked` images, `wrong` are not as recorded; and how one knows."""

    attack: str
    epoch: int
    checked: int
    wrong: int
    what: str


def verify_record(record: Record, *, device_name: str, everything: bool = False) -> Iterator[Check]:
    """A check for each evaluation of a record that is done. Raises the errors of weights and images."""
    cell = read_cell(record.folder)
    device = choose_device(device_name)
    images, _ = load_split(cell, training_protocol(cell), "test", device)
    for epoch in dict.fromkeys(evaluation.epoch for evaluation in record.evaluations):
        model = trained_model(cell, record.folder, epoch, images, device)
        with frozen(model):
            clean = logits_of_all(model, images).argmax(1).cpu().numpy()
            for evaluation in record.evaluations:
                if evaluation.epoch == epoch:
                    yield _check(record, evaluation, model, images, clean, everything)


def logits_of_all(model: nn.Module, images: ImageSet) -> torch.Tensor:
    """Logits (N, C) of all images."""
    return torch.cat([logits_of(model, to_unit(part)) for part in torch.split(images.images, 1024)])


def _check(
    record: Record,
    evaluation: Evaluation,
    model: nn.Module,
    images: ImageSet,
    clean: np.ndarray,
    everything: bool,
) -> Check:
    try:
        rows = record.outcomes(evaluation.attack, evaluation.epoch, evaluation.id)
    except RecordError as error:
        return Check(evaluation.attack, evaluation.epoch, 0, 1, error.message)
    if not np.array_equal(rows["label"], images.labels.cpu().numpy()):
        return Check(evaluation.attack, evaluation.epoch, len(rows), len(rows), "labels are of other images")
    if evaluation.attack == CLEAN:
        wrong = (rows["prediction"] != clean) | (rows["correct"] != (clean == rows["label"]))
        return Check(CLEAN, evaluation.epoch, len(rows), int(wrong.sum()), "predictions computed anew")
    attack = read_attack(record.attack_settings(evaluation.attack, evaluation.id))
    if isinstance(attack, PgdAttack):
        part = images if everything else _first(images, FIRST)
        again, there = evaluate(model, part, attack), rows[: len(part)]
        wrong = (again.prediction != there["prediction"]) | (again.correct != there["correct"])
        return Check(attack.name, evaluation.epoch, len(part), int(wrong.sum()), "attacked anew")
    wrong, found = _refuted(record.folder / evaluation.file, model, images, rows, clean, attack)
    return Check(
        attack.name, evaluation.epoch, len(rows), int(wrong.sum()), f"{found} adversarial images shown again"
    )


def _refuted(
    path: Path, model: nn.Module, images: ImageSet, rows: np.ndarray, clean: np.ndarray, attack: Any
) -> tuple[np.ndarray, int]:
    """Which rows (N,) the evidence does not bear out, and how many adversarial images there are."""
    wrong = rows["correct"] & (clean != rows["label"])
    fallen = ~rows["correct"] & (clean == rows["label"])  # only an adversarial image can say so
    proof = path.with_suffix(".adversarial.safetensors")
    try:
        told = read_json(path.with_suffix(".json"))["adversarial"]["digest"]
        if digest_bytes(proof.read_bytes()) != told:
            return wrong | fallen, 0
        evidence = read_evidence(proof, to_unit(images.images))
    except (CheckpointError, RecordError, OSError, KeyError, TypeError):
        return wrong | fallen, 0
    index = evidence.index
    x, y = to_unit(images.images[index.to(images.device)]), images.labels[index.to(images.device)]
    fooled, prediction = fooled_by(model, x, y, evidence.x_adv, attack.eps, attack.norm)
    shown = np.zeros(len(rows), dtype=bool)
    same = prediction.cpu().numpy() == rows["prediction"][index.numpy()]
    shown[index.numpy()] = fooled.cpu().numpy() & same
    return wrong | (fallen & ~shown), len(index)


def _first(images: ImageSet, count: int) -> ImageSet:
    return replace(images, images=images.images[:count], labels=images.labels[:count])
