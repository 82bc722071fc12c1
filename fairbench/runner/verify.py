"""Check a record against its own weights, image by image.

The counts of the record are compared with its outcomes, and the stream of the first epoch with that of its
seed. Clean predictions are computed again. The adversarial images that AutoAttack and A3 kept are classified
again by the original network in float32, and held against the verdicts of both at the same and larger radii.
Some of the images that withstood them, chosen at random, are attacked again by a gradient search. The images
of PGD are not kept, because its seed makes them again: PGD is run again, on images chosen at random.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fairbench.attacks.frozen import frozen
from fairbench.core.errors import CheckpointError, RecordError
from fairbench.core.identity import digest_bytes
from fairbench.core.regular import read_regular
from fairbench.data.images import ImageSet, to_unit
from fairbench.evaluation.adversarial_examples import AdversarialExamples, read_examples
from fairbench.evaluation.again import broken_again, changed_by_pgd
from fairbench.evaluation.verdicts import fooled_by, full_precision, logits_of_set
from fairbench.planning.code_locations import with_network
from fairbench.records.cell import CLEAN, Cell
from fairbench.records.read import Evaluation, Record
from fairbench.records.run_folder import OutcomeFiles, RunFolder
from fairbench.registry import PgdAttack, Registry, read_attack
from fairbench.registry.attacks import A3Attack, AutoAttack
from fairbench.runner.builders import augmentation, drawn_images, load_split, trained_model
from fairbench.runner.device import choose_device
from fairbench.training.images import TrainingImages

SAMPLE = 64  # images that are attacked again by default
DISAGREE = 0.01  # of the images: so many may withstand one of two honest attacks and not the other


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

    everything: attack all images again. Raises RecordError unless training is done, and the errors of reading
    weights and images.
    """
    if record.state != "done":
        raise RecordError(f"{record.folder.name} is {record.state}: only finished runs can be verified.")
    run = RunFolder(record.folder)
    cell = with_network(run.read_cell(), registry)
    device = choose_device(device_name)
    images, _ = load_split(cell, "test", device)
    yield from _wrong_training(record, cell, run, registry)
    for epoch in dict.fromkeys(evaluation.epoch for evaluation in record.evaluations):
        model = trained_model(cell, run, epoch, images, device)
        with frozen(model), full_precision():
            checkpoint = CheckpointCheck(record, epoch, model, images, everything)
            yield from map(checkpoint.check, checkpoint.evaluations)


def _wrong_training(record: Record, cell: Cell, run: RunFolder, registry: Registry) -> Iterator[Check]:
    """A fault when the curve is not that of the record, or its first epoch not that of the seed.

    Methods that draw the images themselves, by their class, are not checked.
    """
    if record.curve and record.curve != run.curve_digest():
        yield Check("training", 1, 1, 1, f"{run.epochs_file.name} is not that of the record")
    rows = run.read_epochs()[:1]
    draws = "class_share" in registry.readable_plugin(cell.method).path.read_text(encoding="utf-8")
    if draws or not rows or rows[0]["epoch"] != 1 or "stream" not in rows[0]:
        return
    train, _ = load_split(cell, "train", torch.device("cpu"))
    size, crops, augment = cell.training_protocol.batch_size, augmentation(cell), cell.components.augment
    keep = drawn_images(cell, train)
    stream = TrainingImages(train, cell.seed, size, crops, keep, augment, torch.float32).epoch(1)
    if stream.digest != rows[0]["stream"]:
        yield Check("training", 1, 1, 1, f"its images, crops and flips are not those of seed {cell.seed}")


@dataclass(frozen=True)
class BrokenImages:
    """Which images (N,) were proved not to be robust at a radius, by the images that an attack kept."""

    attack: str
    id: str
    norm: str
    eps: float
    broken: NDArray[np.bool_]


@dataclass
class CheckpointCheck:
    """The check of all evaluations of a record at one checkpoint, whose weights are in `model`."""

    record: Record
    epoch: int
    model: nn.Module
    images: ImageSet
    everything: bool
    generator: random.Random = field(default_factory=random.SystemRandom)

    @cached_property
    def clean(self) -> NDArray[np.int64]:
        """The predictions (N,) without attack."""
        return np.asarray(logits_of_set(self.model, self.images).argmax(1).cpu().numpy())

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        return [evaluation for evaluation in self.record.evaluations if evaluation.epoch == self.epoch]

    def check(self, evaluation: Evaluation) -> Check:
        """The check of one evaluation."""

        def result(checked: int, wrong: int, what: str) -> Check:
            return Check(evaluation.attack, evaluation.epoch, checked, wrong, what)

        fault = self.record.outcome_faults.get(self.record.evaluations.index(evaluation))
        if fault:
            return result(0, 1, fault)
        rows = self.record.outcomes(evaluation.attack, evaluation.epoch, evaluation.id)
        size = len(rows)
        if not self._described(evaluation):
            return result(size, size, "its description is not that of the record")
        if not np.array_equal(rows["label"], self.images.labels.cpu().numpy()):
            return result(size, size, "the labels are of other images")
        if evaluation.attack == CLEAN:
            wrong = (rows["prediction"] != self.clean) | (rows["correct"] != (self.clean == rows["label"]))
            return result(size, int(wrong.sum()), "predictions computed again")
        attack = self._attack(evaluation)
        if attack is None:
            return result(size, size, "the cell does not list this attack")
        if isinstance(attack, PgdAttack):
            index = self._sample(np.arange(size))
            wrong = changed_by_pgd(self.model, self.images, index, attack, rows)
            return result(len(index), int(wrong.sum()), "chosen at random and attacked again")
        try:
            examples = self._examples(evaluation)
        except (CheckpointError, RecordError, OSError) as error:
            what = f"no adversarial images to show: {error}; delete {evaluation.file} and run again"
            return result(size, size, what)
        wrong = self._refuted(examples, rows, attack)
        also, said = self._standing(evaluation, rows, attack)
        what = f"{len(examples.index)} adversarial images classified again{said}"
        return result(size, int(wrong.sum()) + also, what)

    def _described(self, evaluation: Evaluation) -> bool:
        """Whether the description beside the outcomes is that of the record, if the record has its digest."""
        digest = evaluation.about.get("description")
        try:
            path = OutcomeFiles(self.record.folder / evaluation.file).about
            return digest is None or digest_bytes(read_regular(path)) == digest
        except OSError:
            return False

    def _attack(self, evaluation: Evaluation) -> PgdAttack | AutoAttack | A3Attack | None:
        settings = self.record.attack_settings(evaluation.attack, evaluation.id)
        return read_attack(settings) if settings else None

    def _sample(self, places: NDArray[np.int64]) -> torch.Tensor:
        """Some of `places`, ascending."""
        if not self.everything and len(places) > SAMPLE:
            places = np.sort(self.generator.sample(list(places), SAMPLE))
        return torch.as_tensor(places, dtype=torch.int64)

    def _standing(
        self, evaluation: Evaluation, rows: NDArray[np.void], attack: AutoAttack | A3Attack
    ) -> tuple[int, str]:
        """How many images that withstood the attack by the record do not, and how that was checked."""
        wrong, said = 0, ""
        allowed = max(1, int(DISAGREE * len(rows)))
        for other in self._broken:
            if other.id != evaluation.id and other.norm == attack.norm and other.eps <= attack.eps:
                count = int((rows["correct"] & other.broken).sum())
                wrong += count if count > allowed else 0
                said += f"; {count} called robust that {other.attack} broke within eps {other.eps:.4g}"
                said += f" (up to {allowed} may differ)" if count else ""
        index = self._sample(np.flatnonzero(rows["correct"]))
        if len(index):
            count, own = broken_again(self.model, self.images, index, attack)
            wrong += count if own or count > 1 else 0
            said += f"; {count} of {len(index)} robust images broken by another search"
        return wrong, said

    @cached_property
    def _broken(self) -> list[BrokenImages]:
        """What the attacks that keep their images broke, as far as the network confirms it now."""
        proofs = []
        for evaluation in self.evaluations:
            attack = None if evaluation.attack == CLEAN else self._attack(evaluation)
            if isinstance(attack, AutoAttack | A3Attack):
                try:
                    broken, _ = self._confirmed(self._examples(evaluation), attack)
                except (CheckpointError, RecordError, OSError):
                    continue
                proofs.append(BrokenImages(evaluation.attack, evaluation.id, attack.norm, attack.eps, broken))
        return proofs

    def _examples(self, evaluation: Evaluation) -> AdversarialExamples:
        """The examples kept beside the outcomes. Raises RecordError when they are not those of the record."""
        path = OutcomeFiles(self.record.folder / evaluation.file).adversarial
        kept = evaluation.about.get("adversarial")
        digest = kept.get("digest") if isinstance(kept, dict) else None
        if digest is None or digest_bytes(read_regular(path)) != digest:
            raise RecordError("they are not those of the record")
        return read_examples(path, to_unit(self.images.images))

    def _confirmed(
        self, examples: AdversarialExamples, attack: AutoAttack | A3Attack
    ) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which images (N,) the examples break; predictions (N,) for the examples, else for clean images."""
        index = examples.index.to(self.images.device)
        x, y = to_unit(self.images.images[index]), self.images.labels[index]
        fooled, prediction = fooled_by(self.model, x, y, examples.x_adv, attack.eps, attack.norm)
        predicted, broken = self.clean.copy(), np.zeros(len(self.images), dtype=bool)
        predicted[examples.index.numpy()] = prediction.cpu().numpy()
        broken[examples.index.numpy()] = fooled.cpu().numpy()
        return broken, predicted

    def _refuted(
        self, examples: AdversarialExamples, rows: NDArray[np.void], attack: AutoAttack | A3Attack
    ) -> NDArray[np.bool_]:
        """Which rows (N,) differ from the network's predictions for the clean images and the examples."""
        broken, predicted = self._confirmed(examples, attack)
        right = self.clean == rows["label"]
        correct = right & ~broken
        wrong = (rows["prediction"] != predicted) | (rows["correct"] != correct)
        survived = [rows[name] for name in rows.dtype.names or () if name.startswith("survived_")]
        if survived:  # an image that an attack broke survives none of the later ones
            for before, after in pairwise([right, *survived, correct]):
                wrong |= after & ~before
            wrong |= survived[-1] != correct
        return np.asarray(wrong)
