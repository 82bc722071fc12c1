"""Each method minus the baseline, paired by seed and by test image."""

from collections.abc import Sequence

import numpy as np

from fairbench.core.errors import RecordError
from fairbench.records.read import AttackKey
from fairbench.stats import paired
from fairbench.tables.columns import seed_cell
from fairbench.tables.entries import Entry, Seed, tail_fraction
from fairbench.tables.evidence import outcomes_under
from fairbench.tables.inventory import TableSpec
from fairbench.tables.table import Column, Row, TableCell, change_columns

LEVEL = 0.05
ROUNDING = 1e-12
_P = ("average_p", "worst_p")  # adjusted over the methods of the table


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
    base, attack = spec.base, None if side == "clean" else spec.attack
    if base is None:
        return columns, ()
    rows = [
        Row(entry.method, entry.label, _cells(entry, base, side, attack))
        for entry in spec.entries
        if entry is not base and set(entry.seeds) & set(base.seeds)
    ]
    return columns, _adjusted(rows, columns)


def _cells(entry: Entry, base: Entry, side: str, attack: AttackKey | None) -> tuple[TableCell, ...]:
    common = [seed for seed in entry.seeds if seed in base.seeds]
    own, other = entry.sides(side), base.sides(side)
    average = {seed: own[seed].average - other[seed].average for seed in common}
    worst = {seed: own[seed].worst - other[seed].worst for seed in common}
    pairs = [_paired(entry.seeds[seed], base.seeds[seed], attack) for seed in common]
    changes = [_classes(*pair) for pair in pairs if pair is not None]
    if len(common) == 1:
        return (*_on_images(pairs[0]), *_counts(changes))
    return (
        seed_cell(average),
        _t(average),
        seed_cell(worst),
        _t(worst),
        TableCell(paired.sign_flip(list(worst.values()))),
        *_counts(changes),
    )


Rows = tuple[np.ndarray, np.ndarray, np.ndarray, int]
"""Of two runs on the same images: correct of the method, of the baseline, labels, (N,) each; classes."""


def _paired(one: Seed, other: Seed, attack: AttackKey | None) -> Rows | None:
    """Both runs on each test image at their last checkpoints; None when the images are not the same."""
    try:
        ours, theirs = (outcomes_under(s.record, attack, s.epochs[-1]) for s in (one, other))
    except RecordError:
        return None
    if not np.array_equal(ours["label"], theirs["label"]):
        return None
    return ours["correct"], theirs["correct"], ours["label"], one.record.num_classes


def _classes(correct: np.ndarray, base: np.ndarray, label: np.ndarray, num_classes: int) -> tuple[int, int]:
    """How many classes are significantly better and worse."""
    gained, lost, p = paired.mcnemar_by_class(correct, base, label, num_classes)
    sure = paired.benjamini_hochberg(p) <= LEVEL
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
    low, high = paired.paired_share_interval(gained, lost, len(label))
    worst = paired.min_difference_interval(correct, base, label, num_classes, tail_fraction(num_classes))
    return (
        TableCell((gained - lost) / len(label), low=low, high=high),
        TableCell(paired.mcnemar(gained, lost)),
        TableCell(worst.value, low=worst.low, high=worst.high),
        TableCell(),
        TableCell(),
    )


def _t(differences: dict[int, float]) -> TableCell:
    """p of the paired t test; empty where all seeds differ by the same amount, which has no spread."""
    values = list(differences.values())
    return TableCell() if np.ptp(values) < ROUNDING else TableCell(paired.paired_t(values))


def _adjusted(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """The rows with the p values of each family adjusted by Holm."""

    def adjusted(column: Column, cells: list[TableCell]) -> list[TableCell]:
        known = [cell.value or 0.0 for cell in cells if cell.exists]
        if not column.key.endswith(_P) or not known:
            return cells
        p = iter(paired.holm(known).tolist())
        return [TableCell(next(p)) if cell.exists else cell for cell in cells]

    return change_columns(rows, columns, adjusted)
