"""Entries: the done records that differ only in seed, reduced to accuracies per seed.

Order of reduction: the average and the worst class accuracy of every evaluated checkpoint, then the mean
over the checkpoints of a seed, then, in a table, the mean over seeds. So the worst class may differ between
checkpoints, and the result is not the lowest of the averaged class accuracies.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fairbench.core.errors import DataError, RecordError
from fairbench.metrics import classwise
from fairbench.metrics.confusion import confusion_shares
from fairbench.records.cell import CLEAN
from fairbench.records.read import AttackKey, Record
from fairbench.tables.groups import assignments, differences, method_overrides

TAIL_FROM_CLASSES = 200  # with so many, the papers report the tail: TRIX, section 5 (Tiny-ImageNet)
TAIL_FRACTION = 0.2


@dataclass(frozen=True, eq=False)
class Side:
    """One seed under one attack (or none): correct images (K, C) at its K checkpoints, of `count` (C,).

    All numbers are in [0, 1] and means over the checkpoints.
    """

    hits: NDArray[np.int64]
    count: NDArray[np.int64]
    confusion: Callable[[], NDArray[np.float64]] | None = None  # reads the outcomes: (K, C, C) shares

    @cached_property
    def class_accuracy(self) -> NDArray[np.float64]:
        """(K, C), of each checkpoint."""
        return classwise.class_accuracy(self.hits, self.count)

    @cached_property
    def balanced(self) -> float:
        """Mean of the class accuracies; every class has the same weight."""
        # In one sum over checkpoints and classes: a mean of means differs in the last digit.
        return float(classwise.balanced_accuracy(self.class_accuracy.ravel()))

    @cached_property
    def average(self) -> float:
        """Share of all images that are correct."""
        return float(classwise.average_accuracy(self.hits, self.count).mean())

    @cached_property
    def worst(self) -> float:
        """The lowest class accuracy of each checkpoint, or with very many classes the tail's."""
        return self.lowest(tail_fraction(len(self.count)))

    def lowest(self, fraction: float | None) -> float:
        """The mean over the lowest `fraction` of classes of each checkpoint; None: the single lowest."""
        return float(classwise.worst_class_accuracy(self.class_accuracy, fraction).mean())

    @cached_property
    def worst_classes(self) -> tuple[int, ...]:
        """The lowest class of each checkpoint."""
        return tuple(classwise.worst_class(self.class_accuracy).tolist())


@dataclass(frozen=True)
class Seed:
    """One done record and its two sides, both of `epochs`; `robust` is None in a table without an attack."""

    record: Record
    epochs: tuple[int, ...]
    clean: Side
    robust: Side | None


@dataclass(frozen=True)
class Entry:
    """One row of a table: a method in one configuration, over its seeds."""

    key: str
    method: str
    overrides: Mapping[str, Any]
    label: str
    seeds: Mapping[int, Seed]
    runs: tuple[Record, ...]  # also those that are not done
    faults: tuple[str, ...] = field(default=())  # why done runs were left out, a sentence each

    @property
    def record(self) -> Record:
        """A record for what all of the entry have in common: a done one where there is one."""
        return next((seed.record for seed in self.seeds.values()), self.runs[0])

    @property
    def title(self) -> str:
        """Its label with the method as papers print it."""
        return self.record.title("method") + self.label.removeprefix(self.method)

    def sides(self, side: str) -> dict[int, Side]:
        """The side "clean" or "robust" of each seed that has it."""
        sides = {number: getattr(seed, side) for number, seed in self.seeds.items()}
        return {number: item for number, item in sides.items() if item is not None}

    def worst_class_name(self, side: str) -> str:
        """The class that was worst most often over seeds and checkpoints, as "cat (9 of 15)"."""
        votes = Counter(c for item in self.sides(side).values() for c in item.worst_classes)
        if not votes:
            return ""
        worst, count = min(votes.items(), key=lambda vote: (-vote[1], vote[0]))
        return f"{self.record.class_names[worst]} ({count} of {votes.total()})"


def tail_fraction(num_classes: int) -> float | None:
    """The share of classes that "worst" is the mean of; None where it is the single lowest class."""
    return TAIL_FRACTION if num_classes >= TAIL_FROM_CLASSES else None


def reduce_side(record: Record, attack: str, epochs: Sequence[int], id: str | None = None) -> Side:
    """The record's correct images per class at the checkpoints of `epochs`.

    Raises RecordError or DataError when outcomes are missing, damaged or lack a class.
    """
    pairs = [record.class_hits(attack, epoch, id) for epoch in epochs]
    count = pairs[0][1]
    for epoch, (_, other) in zip(epochs, pairs, strict=True):
        if other is not count and not np.array_equal(other, count):
            raise RecordError(f"{record.folder.name} was evaluated on other test images at epoch {epoch}.")
    if not count.all():  # class_names of many classes are slow to make
        classwise.require_images(count, record.class_names)
    return Side(np.array([hits for hits, _ in pairs]), count, partial(_confusion, record, attack, epochs, id))


def _confusion(record: Record, attack: str, epochs: Sequence[int], id: str | None) -> NDArray[np.float64]:
    rows = (record.outcomes(attack, epoch, id) for epoch in epochs)
    size = record.num_classes
    return np.array([confusion_shares(row["label"], row["prediction"], size) for row in rows])


def make_entries(records: Iterable[Record], attack: AttackKey | None, sides: "SideCache") -> list[Entry]:
    """The records of one table setting as entries, ordered by label.

    An entry without a done run does not change the labels of the others.
    """
    by_key: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_key[record.entry].append(record)
    groups = {key: sorted(runs, key=lambda r: r.seed) for key, runs in by_key.items()}
    last_only = any(only_last(record, attack) for runs in groups.values() for record in runs)
    reduced: dict[str, tuple[dict[int, Seed], list[str]]] = {}
    for key, runs in groups.items():
        seeds: dict[int, Seed] = {}
        faults = []
        for record in runs:
            if record.state != "done":
                continue
            try:
                seeds[record.seed] = _seed(record, attack, sides, last_only)
            except (RecordError, DataError) as error:
                faults.append(f"seed {record.seed}, {error.message}")
        reduced[key] = (seeds, faults)
    labels = _labels({key: runs[0] for key, runs in groups.items()})
    labels.update(_labels({key: groups[key][0] for key, (seeds, _) in reduced.items() if seeds}))
    entries = []
    for key, runs in groups.items():
        (seeds, faults), first = reduced[key], runs[0]
        words = (first.method, method_overrides(first), labels[key])
        entries.append(Entry(key, *words, seeds, tuple(runs), tuple(faults)))
    return sorted(entries, key=lambda entry: (entry.label, entry.key))


class SideCache:
    """Sides by record, attack and checkpoints, each reduced once: all tables share the clean side."""

    def __init__(self) -> None:
        self._sides: dict[tuple[str, str, tuple[int, ...], str | None], Side] = {}

    def side(self, record: Record, attack: str, epochs: tuple[int, ...], id: str | None = None) -> Side:
        key = (str(record.folder), attack, epochs, id)
        if key not in self._sides:
            self._sides[key] = reduce_side(record, attack, epochs, id)
        return self._sides[key]


def only_last(record: Record, attack: AttackKey | None) -> bool:
    """Whether the record was evaluated under `attack` at the last of several selected checkpoints only."""
    if record.state != "done" or attack is None or len(record.epochs_evaluated) < 2:
        return False
    id = record.attack_ids.get(attack)
    epochs = {e.epoch for e in record.evaluations if e.attack == attack.name and e.id == id}
    return epochs == {record.epochs_evaluated[-1]}


def _seed(record: Record, attack: AttackKey | None, sides: SideCache, last_only: bool) -> Seed:
    """The record with its sides; with `last_only` at the last checkpoint, as other records of the table."""
    ids = record.attack_ids
    epochs = record.epochs_evaluated[-1:] if last_only else record.epochs_evaluated
    if attack is None:
        return Seed(record, epochs, sides.side(record, CLEAN, epochs), None)
    if attack not in ids:
        raise RecordError(f"not evaluated under {attack.name} with these settings.")
    clean = sides.side(record, CLEAN, epochs)
    robust = sides.side(record, attack.name, epochs, ids[attack])
    if robust.count is not clean.count and not np.array_equal(robust.count, clean.count):
        raise RecordError(f"{record.folder.name}: clean and {attack.name} have different test images.")
    return Seed(record, epochs, clean, robust)


def _labels(first: Mapping[str, Record]) -> dict[str, str]:
    """A label for each entry: its method and overrides, and what differs between entries alike in both."""
    labels = {key: _plain_label(record) for key, record in first.items()}
    alike: dict[str, list[str]] = defaultdict(list)
    for key, label in labels.items():
        alike[label].append(key)
    for label, keys in alike.items():
        if len(keys) > 1:
            identities = [first[key].cell.identity or {"entry": key} for key in keys]
            contents = [{k: v for k, v in identity.items() if k != "seed"} for identity in identities]
            for key, difference in zip(keys, differences(contents), strict=True):
                labels[key] = f"{label} [{difference.replace('method.', '')}]"
            if len({labels[key] for key in keys}) < len(keys):
                labels.update({key: f"{label} [entry {key[:8]}]" for key in keys})
    return labels


def _plain_label(record: Record) -> str:
    overrides = assignments(method_overrides(record))
    return f"{record.method} ({overrides})" if overrides else record.method
