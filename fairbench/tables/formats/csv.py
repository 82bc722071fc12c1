"""Tables for programs: one row per table row, accuracies in [0, 1] and rho unrounded."""

import csv
import io
from collections.abc import Sequence

from fairbench.tables.escapes import csv_text
from fairbench.tables.provenance import harmless, made_from, request_json
from fairbench.tables.table import Table, TableCell

_PLACE = ("dataset", "model", "protocol", "protocol_version", "attack", "view", "method", "entry", "source")
_PARTS = ("", "_half_width", "_sd", "_low", "_high", "_values", "_best", "_near", "_verdict")
_REST = (
    "num_seeds",
    "seeds",
    "worst_class_clean",
    "worst_class_robust",
    "rho_convention",
    "warnings",
    "table",
    "records",
    "made_with",
)


def document(tables: Sequence[Table], *, full_captions: bool = False) -> str:
    """All tables below one header; columns that a table does not have stay empty. There are no captions."""
    keys = list(dict.fromkeys(column.key for table in tables for column in table.columns))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*_PLACE, *(csv_text(f"{key}{part}") for key in keys for part in _PARTS), *_REST])
    for table in tables:
        where = (table.dataset, table.model, table.protocol, table.protocol_version, table.attack, table.view)
        whole = made_from(item for row in table.rows for item in row.evidence or table.evidence)
        for row in table.rows:
            cells = {column.key: cell for column, cell in zip(table.columns, row.cells, strict=True)}
            numbers = [text for key in keys for text in _cell(cells.get(key, TableCell()))]
            evidence = row.evidence or table.evidence
            rest = (
                str(len(row.seeds)),
                " ".join(map(str, row.seeds)),
                row.worst_class_clean,
                row.worst_class_robust,
                table.convention,
                "; ".join(row.warnings),
                table.title,
                harmless([item._asdict() for item in evidence]),
                request_json(table, made_from=whole),
            )
            place = (*where, row.method, row.label, row.source)
            writer.writerow([*map(csv_text, place), *numbers, *map(csv_text, rest)])
    return buffer.getvalue()


def _cell(cell: TableCell) -> list[str]:
    numbers = [_exact(value) for value in (cell.value, cell.half_width, cell.sd, cell.low, cell.high)]
    values = " ".join(f"{seed}:{_exact(value)}" for seed, value in cell.values)
    return [*numbers, values, "1" if cell.best else "", "1" if cell.near else "", cell.verdict]


def _exact(value: float | None) -> str:
    return "" if value is None else repr(float(value))
