"""Tables as JSON: a list with an object for each row, accuracies in [0, 1] and rho unrounded."""

import json
from collections.abc import Sequence
from math import isfinite
from typing import Any

from fairbench.tables.table import Row, Table, TableCell

PLACE = ("dataset", "model", "protocol", "protocol_version", "attack", "view")


def document(tables: Sequence[Table]) -> str:
    """The rows of all tables, one a line."""
    rows = [json.dumps(_row(table, row)) for table in tables for row in table.rows]
    return "[\n" + ",\n".join(rows) + "\n]\n" if rows else "[]\n"


def _row(table: Table, row: Row) -> dict[str, Any]:
    evidence = row.evidence or table.evidence
    return {
        **{name: getattr(table, name) for name in PLACE},
        "method": row.method,
        "entry": row.label,
        "source": row.source,
        "seeds": list(row.seeds),
        "columns": {column.key: _cell(cell) for column, cell in zip(table.columns, row.cells, strict=True)},
        "worst_class_clean": row.worst_class_clean,
        "worst_class_robust": row.worst_class_robust,
        "rho_convention": table.convention,
        "warnings": list(row.warnings),
        "table": table.title,
        "records": [item._asdict() for item in evidence],
    }


def _cell(cell: TableCell) -> dict[str, Any]:
    """The value of a column and what is known of its error; None where a value does not exist."""
    numbers = ("value", "half_width", "sd", "low", "high")
    return {
        **{name: _finite(getattr(cell, name)) for name in numbers},
        "by_seed": {str(seed): _finite(value) for seed, value in cell.values},
        "best": cell.best,
        "verdict": cell.verdict,
    }


def _finite(value: float | None) -> float | None:
    """The number; None where it is undefined, which JSON has no other word for."""
    return float(value) if value is not None and isfinite(value) else None
