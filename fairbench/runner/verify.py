"""Check a record against its own weights, image by image.

No new search for adversarial images is made. Clean predictions are computed again. The adversarial images of
an ensemble are classified again by the original network in float32. The images of PGD are not kept, because
its seed makes them again: PGD is run again, on the first images or on all.
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
from fairbench.records.cell import CLEAN
from fairbench.records.read import Evaluation, Record
from fairbench.records.run_folder import OutcomeFiles, RunFolder
from fairbench.registry import PgdAttack, Registry, read_attack
from fairbench.runner.builders import load_split, trained_model
from fairbench.runner.device import choose_device

FIRST = 64  # images on which PGD is run again by default


@dataclass(frozen=True)
class Check:
    """One attack at a checkpoint: of `checked` images, `wrong` differ from the record. what: how."""

    attack: str
    epoch: int
    checked: int
    wrong: int
    what: str


def verify_record(
    record: Record, registry: Registry, *, device_name: str, everything: bool = False
) -> Iterator[Check]:
    """A check for each evaluation of a record.

    everything: run PGD on all images. Raises RecordError unless training is done, and the errors of reading
    weights and images.
    """
    if record.state != "done":
        raise RecordError(f"{record.folder.name} is {record.state}: only finished runs can be verified.")
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
    """The check of one evaluation. clean (N,): the predictions of the model without attack."""

    def result(checked: int, wrong: int, what: str) -> Check:
        return Check(evaluation.attack, evaluation.epoch, checked, wrong, what)

    try:
        rows = record.outcomes(evaluation.attack, evaluation.epoch, evaluation.id)
    except RecordError as error:
        return result(0, 1, error.message)
    size = len(rows)
    if not np.array_equal(rows["label"], images.labels.cpu().numpy()):
        return result(size, size, "the labels are of other images")
    if evaluation.attack == CLEAN:
        wrong = (rows["prediction"] != clean) | (rows["correct"] != (clean == rows["label"]))
        return result(size, int(wrong.sum()), "predictions computed again")
    settings = record.attack_settings(evaluation.attack, evaluation.id)
    if not settings:
        return result(size, size, "the cell does not list this attack")
    attack = read_attack(settings)
    if isinstance(attack, PgdAttack):
        part = images if everything else _first(images, FIRST)
        wrong = _changed(model, part, attack, rows[: len(part)])
        return result(len(part), int(wrong.sum()), "attacked again")
    try:
        examples = _adversarial_examples(record, evaluation, images)
    except (CheckpointError, RecordError, OSError) as error:
        what = f"no adversarial images to show: {error}; delete {evaluation.file} and run again"
        return result(size, size, what)
    wrong = _refuted(examples, model, images, rows, clean, attack)
    return result(size, int(wrong.sum()), f"{len(examples.index)} adversarial images classified again")


def _changed(model: nn.Module, images: ImageSet, attack: PgdAttack, rows: np.ndarray) -> np.ndarray:
    """Which rows (N,) differ from a new run of the attack."""
    again = evaluate(model, images, attack)
    columns = {"prediction": again.prediction, "correct": again.correct, **again.columns}
    return np.asarray(np.any([values != rows[name] for name, values in columns.items()], axis=0))


def _adversarial_examples(record: Record, evaluation: Evaluation, images: ImageSet) -> AdversarialExamples:
    """The examples kept beside the outcomes. Raises RecordError when they are not those of the record."""
    path = OutcomeFiles(record.folder / evaluation.file).adversarial
    digest = (evaluation.about.get("adversarial") or {}).get("digest")
    if digest is None or digest_bytes(path.read_bytes()) != digest:
        raise RecordError("they are not those of the record")
    return read_examples(path, to_unit(images.images))


def _refuted(
    examples: AdversarialExamples,
    model: nn.Module,
    images: ImageSet,
    rows: np.ndarray,
    clean: np.ndarray,
    attack: Any,
) -> np.ndarray:
    """Which rows (N,) differ from the network's predictions for the clean images and the examples."""
    index = examples.index.to(images.device)
    x, y = to_unit(images.images[index]), images.labels[index]
    fooled, prediction = fooled_by(model, x, y, examples.x_adv, attack.eps, attack.norm)
    expected, broken = clean.copy(), np.zeros(len(rows), dtype=bool)
    expected[examples.index.numpy()] = prediction.cpu().numpy()
    broken[examples.index.numpy()] = fooled.cpu().numpy()
    correct = (clean == rows["label"]) & ~broken
    wrong = (rows["prediction"] != expected) | (rows["correct"] != correct)
    survived = [rows[name] for name in rows.dtype.names or () if name.startswith("survived_")]
    if survived:  # an image that an attack broke survives none of the later ones
        for before, after in pairwise([clean == rows["label"], *survived, correct]):
            wrong |= after & ~before
        wrong |= survived[-1] != correct
    return np.asarray(wrong)


def _first(images: ImageSet, count: int) -> ImageSet:
    return replace(images, images=images.images[:count], labels=images.labels[:count])
