"""Check a record against its own weights: every number it rests on, one image at a time.

Nothing here searches. Clean verdicts are computed anew; each image that an ensemble broke is shown to the
network again, unfolded and in float32; PGD, whose images are not kept because their seed makes
them, is run again on the first images, or on all.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from torch import nn

from fairbench.attacks.frozen import frozen
from fairbench.core.errors import CheckpointError, RecordError
from fairbench.core.identity import digest_bytes
from fairbench.data.images import ImageSet, to_unit
from fairbench.evaluation.adversarial_examples import AdversarialExamples, read_examples
from fairbench.evaluation.evaluate import evaluate
from fairbench.evaluation.verdicts import fooled_by, full_precision, logits_of_set
from fairbench.planning.code_locations import with_network
from fairbench.records.read import CLEAN, Evaluation, Record
from fairbench.records.run_folder import OutcomeFiles, RunFolder
from fairbench.registry import PgdAttack, Registry, read_attack
from fairbench.runner.builders import load_split, trained_model
from fairbench.runner.device import choose_device

FIRST = 64  # images that PGD is run on again unless all are asked for


@dataclass(frozen=True)
class Check:
    """One attack at a checkpoint: of `checked` images, `wrong` are not as recorded; and how one knows."""

    attack: str
    epoch: int
    checked: int
    wrong: int
    what: str


def verify_record(
    record: Record, registry: Registry, *, device_name: str, everything: bool = False
) -> Iterator[Check]:
    """A check for each evaluation of a record that is done. Raises the errors of weights and images."""
    run = RunFolder(record.folder)
    cell = with_network(run.read_cell(), registry)
    device = choose_device(device_name)
    images, _ = load_split(cell, "test", device)
    for epoch in dict.fromkeys(evaluation.epoch for evaluation in record.evaluations):
        model = trained_model(cell, run, epoch, images, device)
        with frozen(model), full_precision():
            clean = logits_of_set(model, images).argmax(1).cpu().numpy()
            for evaluation in record.evaluations:
                if evaluation.epoch == epoch:
                    yield _check(record, evaluation, model, images, clean, everything)


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
    settings = record.attack_settings(evaluation.attack, evaluation.id)
    if not settings:
        return Check(evaluation.attack, evaluation.epoch, len(rows), len(rows), "cell.json does not know it")
    attack = read_attack(settings)
    if isinstance(attack, PgdAttack):
        part = images if everything else _first(images, FIRST)
        again, there = evaluate(model, part, attack), rows[: len(part)]
        found = {"prediction": again.prediction, "correct": again.correct, **again.columns}
        wrong = np.any([found[name] != there[name] for name in found], axis=0)
        return Check(attack.name, evaluation.epoch, len(part), int(wrong.sum()), "attacked anew")
    proof = OutcomeFiles(record.folder / evaluation.file).adversarial
    digest = (evaluation.about.get("adversarial") or {}).get("digest")
    try:
        if digest is None or digest_bytes(proof.read_bytes()) != digest:
            raise RecordError("they are not those of the record")
        evidence = read_examples(proof, to_unit(images.images))
    except (CheckpointError, RecordError, OSError) as error:
        what = f"no adversarial images to show: {error}; delete {evaluation.file} and run again"
        return Check(attack.name, evaluation.epoch, len(rows), len(rows), what)
    wrong, what = (
        _refuted(evidence, model, images, rows, clean, attack),
        f"{len(evidence.index)} images shown again",
    )
    return Check(attack.name, evaluation.epoch, len(rows), int(wrong.sum()), what)


def _refuted(
    evidence: AdversarialExamples,
    model: nn.Module,
    images: ImageSet,
    rows: np.ndarray,
    clean: np.ndarray,
    attack: Any,
) -> np.ndarray:
    """Which rows (N,) are not as the network takes the clean images and those in evidence."""
    here = evidence.index.to(images.device)
    x, y = to_unit(images.images[here]), images.labels[here]
    fooled, prediction = fooled_by(model, x, y, evidence.x_adv, attack.eps, attack.norm)
    expected, broken = clean.copy(), np.zeros(len(rows), dtype=bool)
    expected[evidence.index.numpy()] = prediction.cpu().numpy()
    broken[evidence.index.numpy()] = fooled.cpu().numpy()
    standing = (clean == rows["label"]) & ~broken
    wrong = (rows["prediction"] != expected) | (rows["correct"] != standing)
    survived = [rows[name] for name in rows.dtype.names or () if name.startswith("survived_")]
    for sooner, later in pairwise([clean == rows["label"], *survived, *([standing] if survived else [])]):
        wrong |= later & ~sooner
    if survived:
        wrong |= survived[-1] != standing
    return np.asarray(wrong)


def _first(images: ImageSet, count: int) -> ImageSet:
    return replace(images, images=images.images[:count], labels=images.labels[:count])
