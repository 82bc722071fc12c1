"""Records as they lie in a results folder: one run folder each, read without torch.

A damaged folder never hides the others: it comes back as a `Problem` beside the records.
"""

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from fairbench.core.errors import ConfigError, RecordError, ResultsError
from fairbench.core.identity import canonical_json
from fairbench.records.checks import checked_cell, checked_record

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLEAN = "clean"
UNFINISHED = "unfinished"  # state of a folder that has a cell but no record yet


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
    about: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Problem:
    """A run folder that could not be read, and why."""

    folder: Path
    message: str

    def __str__(self) -> str:
        return f"{self.folder.name}: {self.message}"


@dataclass(frozen=True)
class Record:
    """One run folder: `cell` is its cell.json, `record` its record.json, empty while unfinished."""

    folder: Path
    cell: Mapping[str, Any]
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return str(self.cell["id"])

    @property
    def entry(self) -> str:
        """The same for the cells that differ only in seed."""
        return str(self.cell["entry"])

    @property
    def method(self) -> str:
        return str(self.cell["method"])

    @property
    def dataset(self) -> str:
        return str(self.cell["dataset"])

    @property
    def model(self) -> str:
        return str(self.cell["model"])

    @property
    def protocol(self) -> str:
        return str(self.cell["protocol"])

    def title(self, kind: str) -> str:
        """How tables for print call its "method", "dataset" or "model": "WRN-28-10" for wrn-28-10."""
        return str((self.cell.get("titles") or {}).get(kind) or self.cell[kind])

    @property
    def seed(self) -> int:
        return int(self.cell["seed"])

    @property
    def overrides(self) -> dict[str, Any]:
        return dict(self.cell.get("overrides") or {})

    @property
    def preparation(self) -> bool:
        """Whether the run only supplies the weights that others start from: no row of a table."""
        return bool(self.cell.get("preparation"))

    @property
    def num_epochs(self) -> int | None:
        """The epochs of its schedule."""
        epochs = self.identity("fine_tune").get("epochs", self.identity("protocol").get("epochs"))
        return epochs if isinstance(epochs, int) else None

    @property
    def precision(self) -> str:
        """What the network was trained in: fp32, tf32 or bf16."""
        return str(self.identity("protocol").get("precision", "fp32"))

    def identity(self, part: str) -> dict[str, Any]:
        """What the id was hashed from, such as "method" or "protocol"; {} when absent."""
        value = (self.cell.get("identity") or {}).get(part)
        return dict(value) if isinstance(value, dict) else {}

    @property
    def state(self) -> str:
        """done, diverged, failed, interrupted, skipped, or unfinished when there is no record yet."""
        return str(self.record.get("state", UNFINISHED))

    @property
    def reason(self) -> str:
        return str(self.record.get("reason") or "")

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(str(warning) for warning in self.record.get("warnings") or ())

    @property
    def finished(self) -> str:
        return str(self.record.get("finished") or "")

    @property
    def num_classes(self) -> int:
        return int(self.record["num_classes"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """(C,) names; "class 3" for the fourth class of a record without names."""
        names = self.record.get("class_names") or ()
        if len(names) != self.num_classes:
            return tuple(f"class {c}" for c in range(self.num_classes))
        return tuple(str(name) for name in names)

    @cached_property
    def epochs_evaluated(self) -> tuple[int, ...]:
        """The epochs whose checkpoints count, ascending."""
        return tuple(sorted(int(epoch) for epoch in self.record.get("epochs_evaluated") or ()))

    @cached_property
    def all_hits(self) -> tuple["NDArray[Any]", "NDArray[Any]"] | None:
        """Correct images (E, C) of all evaluations and the images (C,); None where one was not counted."""
        import numpy as np

        hits = [evaluation.hits for evaluation in self.evaluations]
        return (np.array(hits), np.array(self.class_count)) if self.class_count and all(hits) else None

    @cached_property
    def _by_place(self) -> dict[tuple[str, int], list[int]]:
        """Where in `evaluations` those of an attack at an epoch are."""
        found: dict[tuple[str, int], list[int]] = {}
        for k, evaluation in enumerate(self.evaluations):
            found.setdefault((evaluation.attack, evaluation.epoch), []).append(k)
        return found

    @cached_property
    def class_count(self) -> tuple[int, ...]:
        """(C,) test images of each class; empty in records older than this field."""
        return tuple(self.record.get("class_count") or ())

    @cached_property
    def evaluations(self) -> tuple[Evaluation, ...]:
        found = []
        for e in self.record.get("evaluations") or ():
            get = e.get
            id, hits, about = str(get("id") or ""), tuple(get("hits") or ()), get("about") or {}
            found.append(Evaluation(e["attack"], e["epoch"], e["file"], get("digest"), id, hits, about))
        return tuple(found)

    @cached_property
    def attack_ids(self) -> Mapping[AttackKey, str]:
        """The attacks evaluated, each with its evaluation id."""
        found = {}
        for name, id in dict.fromkeys((e.attack, e.id) for e in self.evaluations if e.attack != CLEAN):
            settings = self.attack_settings(name, id)
            kept = {k: v for k, v in settings.items() if k not in ("name", "id", "seed", "at")}
            found[AttackKey(name, canonical_json(kept or {"id": id}))] = id
        return found

    @property
    def attacks(self) -> tuple[str, ...]:
        """Names of the attacks that were evaluated, each once, without "clean"."""
        return tuple(dict.fromkeys(attack.name for attack in self.attack_ids))

    def attack_settings(self, attack: str, id: str = "") -> dict[str, Any]:
        """The evaluation settings of `attack` in the cell, {} when the cell does not know it."""
        for settings in self.cell.get("evaluation") or ():
            if settings.get("name") == attack and (not id or settings.get("id") in (None, id)):
                return dict(settings)
        return {}

    def outcomes(self, attack: str, epoch: int, id: str | None = None) -> "NDArray[Any]":
        """One row per test example under `attack` ("clean" for none) at the checkpoint of `epoch`.

        `id` chooses among several settings of an attack; by default those of the cell. Raises
        RecordError when there is no such evaluation, when its file is damaged, and when the
        record points outside its folder.
        """
        found = self.evaluation(attack, epoch, id)
        from fairbench.records.outcomes import read_outcomes  # needs numpy, which `status` does without

        return read_outcomes(self.inside(found.file), found.digest)

    def class_hits(
        self, attack: str, epoch: int, id: str | None = None
    ) -> tuple["NDArray[Any]", "NDArray[Any]"]:
        """Correct and all test images of each class, both (C,) int, of the evaluation that `outcomes` has.

        As the record counted them when it was written; read from the outcomes where it did not. `fairbench
        verify` holds the counts against the outcomes. Raises as `outcomes` does.
        """
        place = self._place(attack, epoch, id)
        if self.all_hits is not None:
            hits, count = self.all_hits
            return hits[place], count
        found = self.evaluations[place]
        if found.hits and self.class_count:
            import numpy as np

            return np.array(found.hits), np.array(self.class_count)
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
        found = [k for k in here if id in (None, self.evaluations[k].id)]
        if len(found) > 1:
            own = self.attack_settings(attack).get("id")
            found = [k for k in found if self.evaluations[k].id == own] or found
        if len(found) != 1:
            what = "no outcomes" if not found else f"{len(found)} outcomes with different settings"
            raise RecordError(
                f"{self.folder.name} has {what} of {attack} at epoch {epoch}.",
                hint=f"it has {', '.join((CLEAN, *self.attacks))} at epochs {_listed(self.epochs_evaluated)}",
            )
        return found[0]

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


def scan(results: Path) -> tuple[list[Record], list[Problem]]:
    """All records under RESULTS/runs in the order of their folder names, and what could not be read.

    No runs are no problem. Raises ResultsError when the folder cannot be listed.
    """
    runs = results / "runs"
    if results.exists() and not results.is_dir():
        raise ResultsError(f"{results} is not a folder.", hint="name the folder of the runs: --results DIR")
    if not runs.exists():
        return [], []
    try:
        with os.scandir(runs) as found:
            names = sorted(item.name for item in found if item.is_dir() and not item.name.startswith("."))
    except OSError as error:
        raise ResultsError(
            f"cannot list {runs}: {error.strerror or error}.", hint="choose another folder with --results DIR"
        ) from error
    records: list[Record] = []
    problems: list[Problem] = []
    with no_collection():
        for name in names:
            folder = runs / name
            try:
                records.append(read_record(folder))
            except RecordError as error:
                problems.append(Problem(folder, error.message))
    return records, problems


@contextmanager
def no_collection() -> Iterator[None]:
    """Without looking for garbage, where all that is made is kept: it would take a quarter of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def find_run(text: str, results: Path) -> Path:
    """The run folder at the path `text`, or the one under RESULTS/runs whose name begins with it.

    Raises ConfigError when there is none or more than one.
    """
    if (Path(text) / "cell.json").is_file():
        return Path(text)
    runs = results / "runs"
    found = sorted(path.parent for path in runs.glob("*/cell.json") if path.parent.name.startswith(text))
    exact = [path for path in found if path.name == text]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if found:
        shown = "\n".join(path.name for path in found[:8])
        raise ConfigError(f"{len(found)} runs in {runs} begin with {text!r}.", hint=f"write more:\n{shown}")
    raise ConfigError(
        f"there is no run called {text!r} in {runs}.",
        hint="give a run's folder or name; see: fairbench status",
    )


def read_record(folder: Path) -> Record:
    """The record in one run folder. Raises RecordError when it is damaged or of another schema."""
    cell = checked_cell(folder / "cell.json")
    path = folder / "record.json"
    return Record(folder, cell, checked_record(path, cell)) if path.exists() else Record(folder, cell)


def _listed(epochs: tuple[int, ...]) -> str:
    return ", ".join(map(str, epochs)) or "none"
