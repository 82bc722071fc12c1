"""Training curves: a file with one JSON line per finished epoch."""

import json
import math
from pathlib import Path
from typing import Any

from fairbench.core.errors import ResultsError
from fairbench.core.files import parse_json, write_atomic
from fairbench.core.regular import append_regular, read_regular


def append_epoch(path: Path, row: dict[str, Any]) -> None:
    """Add the record of one epoch. Raises ResultsError when it cannot be written."""
    line = json.dumps(row, allow_nan=False) + "\n"
    try:
        append_regular(path, line.encode())
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {error.strerror or error}.") from error


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """The finished epochs in order; a line that is damaged or was cut short by a crash is left out.

    Empty when the file cannot be read.
    """
    try:
        lines = read_regular(path).splitlines()
    except OSError:
        return []
    rows: list[dict[str, Any]] = []
    for line in lines:
        try:
            row = parse_json(line)
        except ValueError:
            continue
        if isinstance(row, dict) and _is_count(row.get("epoch")) and _is_number(row.get("seconds")):
            last = rows[-1]["epoch"] if rows else 0
            if row["epoch"] > last:
                rows.append(row)
    return rows


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def finite_numbers(values: object) -> list[float] | None:
    """The numbers of a list in a row; None unless it is a list of at least one finite number."""
    if not isinstance(values, list) or not values or not all(map(_is_number, values)):
        return None
    try:
        numbers = [float(value) for value in values]
    except OverflowError:  # of an integer
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def keep_epochs(path: Path, last: int) -> None:
    """Forget what was written after epoch `last`: training continues from there."""
    rows = [row for row in read_epochs(path) if row["epoch"] <= last]
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    write_atomic(path, lambda file: file.write(text.encode()))
