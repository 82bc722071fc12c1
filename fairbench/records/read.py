"""A record: what a run left, typed, and read without torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fairbench.core.errors import RecordError
from fairbench.core.identity import canonical_json
from fairbench.records.cell import CLEAN, Cell, EvaluationAttack

if TYPE_CHECKING:
    from numpy.typing import NDArray

SCHEMA = 2
SCHEMAS = (1, 2)  # that can be read; in 1, `reason` named the evaluation that failed
UNFINISHED = "unfinished"
TrainingState = Literal["done", "diverged", "failed", "unfinished"]
"""How the training of a cell ended, or that it has not: there is a cell but no record yet."""
NOTHING: Mapping[str, Any] = MappingProxyType({})


class AttackKey(NamedTuple):
    """An evaluation attack: its name and the canonical JSON of its settings, seed excluded."""

    name: str
    settings: str = "{}"


class Evaluation(NamedTuple):
    """One outcomes file of a record. `attack` is "clean" for none; `id` is that of the attack's settings.

    `hits`: correct images of each class, counted when the file was written; empty in older records.
    `about`: passes by stage, findings, and the digest of the adversarial images.
    """

    attack: str
    epoch: int
    file: str
    digest: str | None = None
    id: str = ""
    hits: tuple[int, ...] = ()
    about: Mapping[str, Any] = NOTHING


class FailedEvaluation(NamedTuple):
    """An evaluation that could not be done at the checkpoint of `epoch`, and why."""

    attack: str
    id: str
    epoch: int
    error: str


@dataclass(frozen=True)
class Record:
    """One run: its cell, how its training ended, and each of its evaluations.

    `state`, `reason` and `epoch` are of the training: the last epoch, or the one that diverged. `fault` is
    "memory" when that ran out. `num_classes` and what follows are empty unless the training is done.
    """

    folder: Path
    cell: Cell
    state: TrainingState = "unfinished"
    reason: str = ""
    epoch: int | None = None
    fault: str = ""
    num_classes: int = 0
    class_names: tuple[str, ...] = ()  # (C,)
    class_count: tuple[int, ...] = ()  # (C,) test images; empty in records older than this field
    epochs_evaluated: tuple[int, ...] = ()  # whose mean a table shows, ascending
    epochs_kept: tuple[int, ...] = ()  # whose weights were kept, ascending
    evaluations: tuple[Evaluation, ...] = ()
    failures: tuple[FailedEvaluation, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)  # how its steps were computed
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, Any] = field(default_factory=dict)
    finished: str = ""  # time in UTC
    curve: str = ""  # SHA-256 of epochs.jsonl; empty in records older than this field

    @property
    def id(self) -> str:
        return self.cell.id

    @property
    def entry(self) -> str:
        """The same for the cells that differ only in seed."""
        return self.cell.entry

    @property
    def method(self) -> str:
        return self.cell.method

    @property
    def dataset(self) -> str:
        return self.cell.dataset

    @property
    def model(self) -> str:
        return self.cell.model

    @property
    def protocol(self) -> str:
        return self.cell.protocol

    @property
    def seed(self) -> int:
        return self.cell.seed

    @property
    def overrides(self) -> Mapping[str, Any]:
        """What was set by hand, by option."""
        return self.cell.overrides

    @property
    def preparation(self) -> bool:
        """Whether the run only supplies the weights that others start from: no row of a table."""
        return self.cell.preparation

    def title(self, kind: str) -> str:
        """How tables for print call its "method", "dataset" or "model": "WRN-28-10" for wrn-28-10."""
        return self.cell.titles.get(kind) or str(getattr(self.cell, kind))

    @property
    def precision(self) -> str:
        """What the network was trained in: fp32, tf32-conv, tf32 or bf16.

        Under `precision: torch` it depends on the device. Records older than that setting are fp32.
        """
        return str(self.training.get("arithmetic") or self.cell.precision)

    @cached_property
    def outcome_faults(self) -> Mapping[int, str]:
        """What is wrong with the outcomes of each evaluation, by its place in `evaluations`; {} for none."""
        from fairbench.records.checked import outcome_faults  # which imports numpy where it reads outcomes

        return outcome_faults(self)

    @cached_property
    def all_hits(self) -> tuple["NDArray[Any]", "NDArray[Any]"] | None:
        """Correct images (E, C) of all evaluations and the images (C,); None where one was not counted."""
        import numpy as np

        hits = [evaluation.hits for evaluation in self.evaluations]
        return (np.array(hits), np.array(self.class_count)) if self.class_count and all(hits) else None

    @cached_property
    def _by_place(self) -> dict[tuple[str, int], list[int]]:
        """Where in `evaluations` those of an attack at an epoch are."""
        places: dict[tuple[str, int], list[int]] = {}
        for k, evaluation in enumerate(self.evaluations):
            places.setdefault((evaluation.attack, evaluation.epoch), []).append(k)
        return places

    @cached_property
    def attack_ids(self) -> Mapping[AttackKey, str]:
        """The attacks evaluated, each with its evaluation id."""
        ids = {}
        for name, id in dict.fromkeys((e.attack, e.id) for e in self.evaluations if e.attack != CLEAN):
            settings = self.attack_settings(name, id)
            kept = {k: v for k, v in settings.items() if k not in ("name", "id", "seed", "at")}
            ids[AttackKey(name, canonical_json(kept or {"id": id}))] = id
        return ids

    @property
    def attacks(self) -> tuple[str, ...]:
        """Names of the attacks that were evaluated, each once, without "clean"."""
        return tuple(dict.fromkeys(attack.name for attack in self.attack_ids))

    def attack_settings(self, attack: str, id: str = "") -> dict[str, Any]:
        """The evaluation settings of `attack` in the cell, {} when the cell does not have it."""
        item = self._attack(attack, id)
        return {} if item is None else item.to_json()

    def _attack(self, attack: str, id: str = "") -> EvaluationAttack | None:
        for item in self.cell.evaluation:
            if item.name == attack and (not id or item.id in ("", id)):
                return item
        return None

    def outcomes(self, attack: str, epoch: int, id: str | None = None) -> "NDArray[Any]":
        """One row per test example under `attack` ("clean" for none) at the checkpoint of `epoch`.

        `id` chooses among several settings of an attack; by default those of the cell. Raises
        RecordError when there is no such evaluation, when its file is damaged, and when the
        record points outside its folder.
        """
        evaluation = self.evaluation(attack, epoch, id)
        from fairbench.records.outcomes import read_outcomes  # needs numpy, which `status` does without

        return read_outcomes(self.inside(evaluation.file), evaluation.digest)

    def class_hits(
        self, attack: str, epoch: int, id: str | None = None
    ) -> tuple["NDArray[Any]", "NDArray[Any]"]:
        """Correct and all test images of each class, both (C,) int, of the evaluation that `outcomes` has.

        As the record counted them when it was written; read from the outcomes where it did not. Raises as
        `outcomes` does, and when the outcomes have other counts.
        """
        place = self._place(attack, epoch, id)
        if place in self.outcome_faults:
            raise RecordError(f"{self.outcome_faults[place]}.", hint="run the same command again")
        if self.all_hits is not None:
            hits, count = self.all_hits
            return hits[place], count
        evaluation = self.evaluations[place]
        if evaluation.hits and self.class_count:
            import numpy as np

            return np.array(evaluation.hits), np.array(self.class_count)
        from fairbench.metrics.classwise import class_count, class_hits

        rows = self.outcomes(attack, epoch, id)
        label = rows["label"]
        return class_hits(rows["correct"], label, self.num_classes), class_count(label, self.num_classes)

    def evaluation(self, attack: str, epoch: int, id: str | None = None) -> Evaluation:
        """The evaluation of `attack` at `epoch`. Raises RecordError unless there is exactly one."""
        return self.evaluations[self._place(attack, epoch, id)]

    def _place(self, attack: str, epoch: int, id: str | None) -> int:
        """Where in `evaluations` that of `attack` at `epoch` is."""
        here = self._by_place.get((attack, epoch), [])
        places = [k for k in here if id in (None, self.evaluations[k].id)]
        if len(places) > 1:
            own = self._attack(attack)
            own_id = None if own is None else own.id
            places = [k for k in places if self.evaluations[k].id == own_id] or places
        if len(places) != 1:
            what = "no outcomes" if not places else f"{len(places)} outcomes with different settings"
            raise RecordError(
                f"{self.folder.name} has {what} of {attack} at epoch {epoch}.",
                hint=f"it has {', '.join((CLEAN, *self.attacks))} at epochs {_listed(self.epochs_evaluated)}",
            )
        return places[0]

    def inside(self, file: str) -> Path:
        """The path of a file that the record names. Raises RecordError when it is not inside the folder."""
        path = self.folder / file
        relative = not (PurePosixPath(file).is_absolute() or PureWindowsPath(file).is_absolute())
        if (
            not relative
            or ".." in PureWindowsPath(file).parts  # splits at both kinds of slash
            or "\0" in file
            or not path.resolve().is_relative_to(self.folder.resolve())
        ):
            raise RecordError(
                f"{self.folder.name} points outside its own folder: {file!r}.",
                hint="this record was not written by fairbench; do not trust its numbers",
            )
        return path

    def to_json(self) -> dict[str, Any]:
        """The content of `record.json`."""
        heads = {"schema": SCHEMA, "id": self.id, "entry": self.entry, "state": self.state}
        heads |= {"reason": self.reason or None, "epoch": self.epoch}
        if self.fault:
            heads["fault"] = self.fault
        if self.state == "done":
            names = ("num_classes", "class_names", "class_count", "epochs_evaluated", "epochs_kept")
            heads |= {name: getattr(self, name) for name in names}
            heads |= {"training": dict(self.training), "seconds": dict(self.seconds)}
            heads |= {"curve": self.curve} if self.curve else {}
        lines = [line._asdict() for line in self.evaluations] + [line._asdict() for line in self.failures]
        return {**heads, "evaluations": lines, "warnings": self.warnings, "finished": self.finished}


def numbered(num_classes: int) -> tuple[str, ...]:
    """Names for classes without names: "class 3" for the fourth."""
    return tuple(f"class {c}" for c in range(num_classes))


def _listed(epochs: tuple[int, ...]) -> str:
    return ", ".join(map(str, epochs)) or "none"
