"""Each method against the baseline, paired: on common seeds and on the same test images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fairbench.core.errors import RecordError
from fairbench.records.read import CLEAN, AttackKey
from fairbench.stats.paired import (
    benjamini_hochberg,
    holm,
    mcnemar,
    mcnemar_by_class,
    min_difference_interval,
    paired_share_interval,
    paired_t,
    sign_flip,
)
from fairbench.tables.columns import seed_cell
from fairbench.tables.entries import Entry, Seed, tail_fraction
from fairbench.tables.inventory import TableSpec
from fairbench.tables.table import Column, Row, TableCell

LEVEL = 0.05
ROUNDING = 1e-12
_P = ("average_p", "worst_p")  # of these the methods of a table are one family


def rows(spec: TableSpec, side: str) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """The columns, and a row for each method that shares a seed with the baseline."""
    columns = (
        Column(f"{side}_average", "average", side, "points", None),
        Column(f"{side}_average_p", "p", side, "p", None, 3),
        Column(f"{side}_worst", "worst", side, "points", None),
        Column(f"{side}_worst_p", "p", side, "p", None, 3),
        Column(f"{side}_worst_flip_p", "flip p", side, "p", None, 3),
        Column(f"{side}_classes_up", "classes up", side, "count", None, 1),
        Column(f"{side}_classes_down", "classes down", side, "count", None, 1),
    )
    base = spec.base
    if base is None:
        return columns, ()
    rows = [
        Row(entry.method, entry.label, _cells(entry, base, spec.attack, side))
        for entry in spec.entries
        if entry is not base and set(entry.seeds) & set(base.seeds)
    ]
    return columns, tuple(_adjusted(rows, columns))


def _cells(entry: Entry, base: Entry, attack: AttackKey | None, side: str) -> tuple[TableCell, ...]:
    common = [seed for seed in entry.seeds if seed in base.seeds]
    own, other = entry.sides(side), base.sides(side)
    average = {seed: own[seed].average - other[seed].average for seed in common}
    worst = {seed: own[seed].worst - other[seed].worst for seed in common}
    pairs = [_paired(entry.seeds[seed], base.seeds[seed], attack, side) for seed in common]
    changes = [_classes(*pair) for pair in pairs if pair is not None]
    if len(common) == 1:
        return (*_on_images(pairs[0]), *_counts(changes))
    return (
        seed_cell(average),
        _t(average),
        seed_cell(worst),
        _t(worst),
        TableCell(sign_flip(list(worst.values()))),
        *_counts(changes),
    )


Rows = tuple[np.ndarray, np.ndarray, np.ndarray, int]
"""Of a pair: correct of the method, correct of the baseline, labels (N,) each; the number of classes."""


def _paired(one: Seed, other: Seed, attack: AttackKey | None, side: str) -> Rows | None:
    """Both runs on each test image at their last checkpoints; None when the images are not the same."""
    found = []
    for seed in (one, other):
        record = seed.record
        if side == "clean" or attack is None:
            name, id = CLEAN, None
        else:
            name, id = attack.name, record.attack_ids.get(attack)
        try:
            found.append(record.outcomes(name, seed.epochs[-1], id))
        except RecordError:
            return None
    if not np.array_equal(found[0]["label"], found[1]["label"]):
        return None
    return found[0]["correct"], found[1]["correct"], found[0]["label"], one.record.num_classes


def _classes(correct: np.ndarray, base: np.ndarray, label: np.ndarray, num_classes: int) -> tuple[int, int]:
    """How many classes are significantly better and worse."""
    gained, lost, p = mcnemar_by_class(correct, base, label, num_classes)
    sure = benjamini_hochberg(p) <= LEVEL
    return int((sure & (gained > lost)).sum()), int((sure & (gained < lost)).sum())


def _counts(changes: Sequence[tuple[int, int]]) -> tuple[TableCell, TableCell]:
    if not changes:
        return TableCell(), TableCell()
    up, down = np.mean(changes, axis=0)
    return TableCell(float(up)), TableCell(float(down))


def _on_images(pair: Rows | None) -> tuple[TableCell, ...]:
    """For one seed: differences, limits and McNemar's p over the images of the last checkpoint."""
    if pair is None:
        return (TableCell(),) * 5
    correct, base, label, num_classes = pair
    gained, lost = int((correct & ~base).sum()), int((base & ~correct).sum())
    low, high = paired_share_interval(gained, lost, len(label))
    worst = min_difference_interval(correct, base, label, num_classes, tail_fraction(num_classes))
    return (
        TableCell((gained - lost) / len(label), low=low, high=high),
        TableCell(mcnemar(gained, lost)),
        TableCell(worst.value, low=worst.low, high=worst.high),
        TableCell(),
        TableCell(),
    )


def _t(differences: dict[int, float]) -> TableCell:
    """p of paired t; none where all seeds differ by the same, as may be with few images: no spread."""
    values = list(differences.values())
    return TableCell() if np.ptp(values) < ROUNDING else TableCell(paired_t(values).p)


def _adjusted(rows: Sequence[Row], columns: Sequence[Column]) -> list[Row]:
    """The rows with the p values of each family adjusted by Holm."""
    cells = [list(row.cells) for row in rows]
    for k, column in enumerate(columns):
        known = [line for line in cells if line[k].exists]
        if column.key.endswith(_P) and known:
            for line, p in zip(known, holm([line[k].value or 0.0 for line in known]), strict=True):
                line[k] = TableCell(float(p))
    return [replace(row, cells=tuple(line)) for row, line in zip(rows, cells, strict=True)]
