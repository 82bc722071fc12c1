"""Published numbers: read from `published_results.csv`, set beside ours with a verdict, never mixed.

The file has a line for each row of a paper's table, accuracies in percent as printed. `fairbench table
--claims my.csv` reads one of the same columns from elsewhere.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fairbench.core.errors import ConfigError, UnknownNameError
from fairbench.metrics.rho import Convention
from fairbench.tables.table import Column, Row, Table, TableCell

OURS = Path(__file__).with_name("published_results.csv")
NUMBERS = ("clean_average", "clean_worst", "clean_rho", "robust_average", "robust_worst", "robust_rho")
RULES: dict[str, Convention] = {"trix": "trix"}  # whose printed rho does not follow the signed definition


@dataclass(frozen=True)
class PublishedResult:
    """A row of a published table. values: by column key, (value, printed deviation or None), in [0, 1]."""

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

    @property
    def rule(self) -> Convention:
        """The rule that its printed rho follows."""
        return RULES.get(self.source, "signed")

    @property
    def place(self) -> str:
        return f"{self.source} {self.table}"


def read_claims(asked: str) -> list[PublishedResult]:
    """The claims of the sources in "trix,dafa" ("all" for every one), or of a .csv file.

    Raises UnknownNameError for a source, ConfigError for a file that cannot be read.
    """
    if asked.endswith(".csv"):
        return _read(Path(asked))
    claims = _read(OURS)
    known = list(dict.fromkeys(claim.source for claim in claims))
    names = known if asked == "all" else [name.strip() for name in asked.split(",")]
    for name in names:
        if name not in known:
            raise UnknownNameError("source", name, known, asked_by=f"--claims {asked}")
    return [claim for claim in claims if claim.source in names]


def _read(path: Path) -> list[PublishedResult]:
    try:
        with path.open(newline="") as file:
            return [_claim(row) for row in csv.DictReader(file)]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} is not a file of published values: {type(error).__name__} {error}.",
            hint="its columns: source,table,where,dataset,model,attack,method,label,"
            + ",".join(name if name.endswith("rho") else f"{name},{name}_sd" for name in NUMBERS)
            + ",note",
        ) from error


def _claim(row: dict[str, str]) -> PublishedResult:
    values = {}
    for name in NUMBERS:
        scale = 1.0 if name.endswith("rho") else 100.0
        if row[name]:
            sd = row.get(f"{name}_sd")
            values[name] = (_finite(row[name]) / scale, _finite(sd) / scale if sd else None)
    texts = {
        name: row[name]
        for name in ("source", "table", "where", "dataset", "model", "attack", "method", "label", "note")
    }
    return PublishedResult(**texts, values=values)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text!r} is no accuracy")
    return value


def with_claims(table: Table, claims: Sequence[PublishedResult], asked: str) -> Table:
    """The table with a row of its own for each published value of its methods, and notes that say whose.

    A claim belongs to a row when data set, network, attack (by its settings) and method are the same; the
    verdict says where the published value lies to our interval. Printed rho is left out where it follows
    another rule. `asked` is what `read_claims` read.
    """
    here = [c for c in claims if c.dataset == table.dataset and c.model in ("", table.model)]
    rows: list[Row] = []
    used: list[PublishedResult] = []
    for row in table.rows:
        rows.append(row)
        for claim in here if row.label == row.method else ():  # overrides were not published
            if (claim.attack, claim.method) == (table.published_as, row.method):
                used.append(claim)
                rows.append(_published(claim, row, table))
    notes = [
        f"published ({claim.place}): {claim.where}, Table {claim.table}"
        + (f"; {claim.note}" if claim.note else "")
        for claim in {claim.place: claim for claim in used}.values()
    ]
    if used:
        notes.append("published values are of their authors' own programs, schedules and seeds")
    elif here:
        attacks = ", ".join(sorted({claim.attack for claim in here}))
        notes.append(
            f"published values for this data set and network are under {attacks}: none is shown here"
        )
    else:
        notes.append("there are no published values for this data set and network")
    request = (*table.request, ("claims", asked))
    return replace(table, rows=tuple(rows), notes=(*table.notes, *notes), request=request)


def _published(claim: PublishedResult, ours: Row, table: Table) -> Row:
    pairs = zip(table.columns, ours.cells, strict=True)
    return Row(
        method=claim.method,
        label=f"  published ({claim.place})",
        cells=tuple(_beside(claim, column, cell, table.convention) for column, cell in pairs),
        source=f"{claim.where}, Table {claim.table}",
    )


def _beside(claim: PublishedResult, column: Column, ours: TableCell, convention: str) -> TableCell:
    if column.key not in claim.values or (column.unit == "rho" and claim.rule != convention):
        return TableCell()
    value, sd = claim.values[column.key]
    return TableCell(value, sd=sd, verdict=verdict(value, ours))


def verdict(published: float, ours: TableCell) -> str:
    """Whether a published value lies inside our 95 % interval, below or above it; "" without an interval."""
    if not ours.exists or ours.value is None or ours.half_width is None:
        return ""
    if abs(published - ours.value) <= ours.half_width + 1e-12:  # the limit itself, whatever rounding says
        return "inside"
    return "below" if published < ours.value else "above"
