"""The words around a table, the same in every format: caption, notes, and the legend of all tables."""

from collections.abc import Sequence
from typing import NamedTuple

from fairbench.tables.captions import WIDTH, fitted
from fairbench.tables.formats.numbers import NEAR
from fairbench.tables.table import Table, TableCell

DEFINITIONS = {
    "best": "the best mean of each column",
    "near": "what is not significantly worse (one-sided t tests over common seeds with moderated variances, "
    "5 % over the column, Bonferroni)",
    "verdict": "Published values have rows of their own, with their deviation as printed: in agrees with "
    "ours (Welch's t test, 5 %), low is significantly lower, high significantly higher.",
}


class Marks(NamedTuple):
    """What a format calls the two marks, in a caption and in the legend."""

    best: str = "bold"
    near: str = NEAR


class Words(NamedTuple):
    """The caption of a table, without its title, and its notes."""

    caption: str
    notes: tuple[str, ...]


def words_of(table: Table, marks: Marks, *, full: bool, before: str = "", width: int = WIDTH) -> Words:
    """Caption and notes; a caption in full sentences, or one of three lines with the text `before` it."""
    if full:
        sentences = [*table.description, *_mark_definitions([table], marks)]
        return Words(" ".join(sentences), table.notes)
    kept, left_out = fitted([*table.caption, *_marks_used(table, marks)], before, width)
    return Words(" ".join(kept), (*left_out, *table.notes))


def legend(tables: Sequence[Table], marks: Marks) -> list[str]:
    """The sentences that define what is in any of the tables, each once."""
    definitions = dict.fromkeys(sentence for table in tables for sentence in table.definitions)
    return [*definitions, *_mark_definitions(tables, marks)]


def _marks_used(table: Table, marks: Marks) -> list[str]:
    cells = _cells([table])
    best = [f"{marks.best}: best"] if any(cell.best for cell in cells) else []
    near = [f"{marks.near}: not significantly worse"] if any(cell.near for cell in cells) else []
    sentence = "; ".join([*best, *near])
    return [f"{sentence[0].upper()}{sentence[1:]}."] if sentence else []


def _mark_definitions(tables: Sequence[Table], marks: Marks) -> list[str]:
    cells = _cells(tables)
    used = [f"{marks.best} marks {DEFINITIONS['best']}"] if any(cell.best for cell in cells) else []
    used += [f"{marks.near} {DEFINITIONS['near']}"] if any(cell.near for cell in cells) else []
    sentence = ", ".join(used)
    sentences = [f"{sentence[0].upper()}{sentence[1:]}."] if sentence else []
    return sentences + ([DEFINITIONS["verdict"]] if any(cell.verdict for cell in cells) else [])


def _cells(tables: Sequence[Table]) -> list[TableCell]:
    return [cell for table in tables for row in table.rows for cell in row.cells]
