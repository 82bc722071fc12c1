"""Published numbers, read from `published_results.csv` and shown in rows of their own beside our numbers.

The file has one line for each row of a paper's table, accuracies in percent as printed. `fairbench table
--claims my.csv` reads another file with the same columns.
"""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fairbench.core.errors import ConfigError, UnknownNameError
from fairbench.metrics.rho import Convention
from fairbench.records.attack_strength import same_attack
from fairbench.stats.intervals import welch_half_width
from fairbench.tables.table import RULES, Column, Row, Table, TableCell

OURS = Path(__file__).with_name("published_results.csv")
NUMBERS = ("clean_average", "clean_worst", "clean_rho", "robust_average", "robust_worst", "robust_rho")
TEXTS = ("source", "table", "where", "dataset", "model", "attack", "method", "label", "note")
SEEDS = 3  # of a printed deviation where the paper does not say how many
_RHO_RULES: dict[str, Convention] = {"trix": "trix"}  # sources whose printed rho has another definition


@dataclass(frozen=True)
class PublishedResult:
    """One row of a published table.

    values: by column key the value and its printed deviation or None; accuracies in [0, 1]. seeds: over how
    many the deviation is; None where the paper does not say.
    """

    source: str
    table: str
    where: str
    dataset: str
    model: str  # "" where the paper does not name it
    attack: str
    method: str
    label: str
    note: str
    values: dict[str, tuple[float, float | None]]
    seeds: int | None = None

    @property
    def rule(self) -> Convention:
        """The rule that its printed rho follows."""
        return _RHO_RULES.get(self.source, "signed")

    @property
    def name(self) -> str:
        """Its source and table, as "trix 1a"."""
        return f"{self.source} {self.table}"

    @property
    def citation(self) -> str:
        """Where it was published, as "arXiv 2507.07768, Table 1a"."""
        return f"{self.where}, Table {self.table}"


def read_published(sources: str) -> list[PublishedResult]:
    """The published results of the sources in "trix,dafa" ("all" for every source), or of a .csv file.

    Raises UnknownNameError for a source, ConfigError for a file that cannot be read.
    """
    if sources.endswith(".csv"):
        return _read(Path(sources))
    results = _read(OURS)
    known = list(dict.fromkeys(result.source for result in results))
    names = known if sources == "all" else [name.strip() for name in sources.split(",")]
    for name in names:
        if name not in known:
            raise UnknownNameError("source", name, known, asked_by=f"--claims {sources}")
    return [result for result in results if result.source in names]


def _read(path: Path) -> list[PublishedResult]:
    try:
        with path.open(newline="") as file:
            return [_result(line) for line in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} is not a file of published values: {type(error).__name__} {error}.",
            hint=f"its columns: {','.join(TEXTS[:-1])},"
            + ",".join(name if name.endswith("rho") else f"{name},{name}_sd" for name in NUMBERS)
            + ",note,seeds",
        ) from error


def _result(line: dict[str, str]) -> PublishedResult:
    values = {}
    for name in NUMBERS:
        scale = 1.0 if name.endswith("rho") else 100.0
        if line[name]:
            sd = line.get(f"{name}_sd")
            values[name] = (_finite(line[name]) / scale, _finite(sd) / scale if sd else None)
    seeds = int(line.get("seeds") or 0) or None
    return PublishedResult(**{name: line[name] or "" for name in TEXTS}, values=values, seeds=seeds)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no accuracy")
    return value


def with_published(table: Table, published: Sequence[PublishedResult], sources: str) -> Table:
    """The table with the published values of its methods, and notes that cite them.

    A published value is shown below a row of the same data set, network, attack (by its settings) and method
    without overrides. The verdict is whether it lies in our interval. Printed rho is left out where it
    follows another rule. `sources` is the text that `read_published` read.
    """
    settings = json.loads(table.attack_settings or "{}")
    here = [p for p in published if p.dataset == table.dataset and p.model in ("", table.model)]
    rows: list[Row] = []
    used: list[PublishedResult] = []
    for row in table.rows:
        rows.append(row)
        for result in here if row.label == row.method else ():  # overrides were not published
            if result.method == row.method and same_attack(result.attack, table.attack, settings):
                used.append(result)
                rows.append(_published_row(result, row, table))
    notes = [
        f"published ({result.name}): {result.citation}" + (f"; {result.note}" if result.note else "")
        for result in {result.name: result for result in used}.values()
    ]
    if used:
        notes.append("published values are from the authors' own code, schedules and seeds")
    elif here:
        attacks = ", ".join(sorted({result.attack for result in here}))
        notes.append(
            f"published values for this data set and network are under {attacks}: none is shown here"
        )
    else:
        notes.append("there are no published values for this data set and network")
    request = (*table.request, ("claims", sources))
    return replace(table, rows=tuple(rows), notes=(*table.notes, *notes), request=request)


def _published_row(result: PublishedResult, ours: Row, table: Table) -> Row:
    """The row of a published result below our row of the same method."""
    cells = []
    for column, cell in zip(table.columns, ours.cells, strict=True):
        published = published_cell(result, column)
        if column.unit == "rho" and result.rule != table.convention:
            published = TableCell()
        elif published.value is not None:
            called = verdict(published, result.seeds, cell, table.rules)
            published = replace(published, verdict=called)
        cells.append(published)
    return Row(result.method, f"  published ({result.name})", tuple(cells), source=result.citation)


def published_cell(result: PublishedResult, column: Column) -> TableCell:
    """The published value of a column with its printed deviation; empty where none was printed."""
    value, sd = result.values.get(column.key, (None, None))
    return TableCell(value, sd=sd)


def verdict(published: TableCell, seeds: int | None, ours: TableCell, rules: int = RULES) -> str:
    """Whether a published mean agrees with ours: "inside", or significantly "below" or "above".

    "" where we have one seed. Two-sided tests at 5 %. A printed deviation over `seeds` seeds (SEEDS where the
    paper does not say how many) enters by Welch's test. A value without a deviation counts as a mean of
    `seeds` seeds, or as one seed, with our deviation. rules: 1 for our t interval alone, as in old tables.
    """
    n = len(ours.values)
    if not ours.exists or ours.value is None or ours.half_width is None or published.value is None:
        return ""
    if rules < 2:
        limit = ours.half_width
    elif ours.sd is None or n < 2:
        return ""
    elif published.sd is None:
        limit = ours.half_width * math.sqrt(1 + n / (seeds or 1))
    else:
        limit = welch_half_width((ours.sd, published.sd), (n, max(seeds or SEEDS, 2)))
    behind = published.value - ours.value
    if abs(behind) <= limit + 1e-12:  # the limit itself, despite rounding
        return "inside"
    return "below" if behind < 0 else "above"
