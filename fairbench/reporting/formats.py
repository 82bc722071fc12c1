"""Tables as text for a terminal, Markdown, LaTeX and CSV."""

import csv
import io
import math
import re
import textwrap
from collections.abc import Sequence

from fairbench.core.errors import UnknownNameError
from fairbench.reporting.captions import PLUS_MINUS
from fairbench.reporting.escapes import csv_text, latex, markdown, plain
from fairbench.reporting.table import COLUMNS, Cell, Row, Table

TEXT_WIDTH = 100
_HEADERS = ("average", "worst", "rho")
_CSV_SETTING = ("dataset", "model", "protocol", "protocol_version", "attack")
_CSV_PLACE = (*_CSV_SETTING, "method", "entry", "num_seeds", "seeds")
_CSV_REST = ("worst_class_clean", "worst_class_robust", "rho_convention", "record_ids", "warnings", "table")


def render(tables: Sequence[Table], format: str = "text") -> str:
    """The tables as one text that ends with a line end; "" for no tables.

    format: "text" (aligned, * marks the best), "markdown", "latex" (needs booktabs only, to be
    \\input) or "csv" (one row per table row; accuracies in [0, 1] and rho unrounded). Raises
    UnknownNameError for another one.
    """
    if format not in FORMATS:
        raise UnknownNameError("format", format, FORMATS, asked_by=f"--format {format}")
    return FORMATS[format](tables) if tables else ""


def _text(tables: Sequence[Table]) -> str:
    return "\n\n".join(_text_table(table) for table in tables) + "\n"


def _text_table(table: Table) -> str:
    # Every number keeps a place for its mark, so that the digits stay below each other.
    body = [
        [plain(row.label), *(_number(c, k, table) + ("*" if c.best else " ") for k, c in _numbered(row))]
        for row in table.rows
    ]
    head = ["method", *(f"{name} " for name in _HEADERS * 2)]
    widths = [max(len(line[k]) for line in [head, *body]) for k in range(len(head))]
    side = sum(widths[1:4]) + 4
    lines = [plain(table.title), ""]
    if body:
        groups = "clean ".rjust(side) + "  " + "robust ".rjust(sum(widths[4:]) + 4)
        lines.append((" " * widths[0] + "  " + groups).rstrip())
        lines += [_aligned(line, widths) for line in (head, ["-" * width for width in widths], *body)]
        lines.append("")
    lines += _wrapped(_caption(table, "* marks the highest mean of each column."))
    for note in table.notes:
        lines += _wrapped(f"note: {plain(note)}", indent="      ")
    return "\n".join(lines)


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(plain(text), TEXT_WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _caption(table: Table, best: str = "The highest mean of each column is in bold.") -> str:
    marked = any(cell.best for row in table.rows for cell in row.cells)
    return f"{table.caption} {best}" if marked else table.caption


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    numbers = (text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True))
    return "  ".join([line[0].ljust(widths[0]), *numbers]).rstrip()


def _markdown(tables: Sequence[Table]) -> str:
    return "\n\n".join(_markdown_table(table) for table in tables) + "\n"


def _markdown_table(table: Table) -> str:
    lines = [f"**{markdown(table.title)}**", ""]
    if table.rows:
        names = ["method", *(f"{side} {name}" for side in ("clean", "robust") for name in _HEADERS)]
        lines += [f"| {' | '.join(names)} |", "|---|" + "---:|" * len(COLUMNS)]
        for row in table.rows:
            numbers = (_emphasised(_number(cell, k, table), cell, "**{}**") for k, cell in _numbered(row))
            lines.append(f"| {' | '.join([markdown(row.label), *numbers])} |")
        lines.append("")
    lines.append(markdown(_caption(table)))
    if table.notes:
        lines += ["", *(f"- {markdown(note)}" for note in table.notes)]
    return "\n".join(lines)


def _latex(tables: Sequence[Table]) -> str:
    head = "% Made by fairbench table. Needs \\usepackage{booktabs} in the preamble.\n"
    labels: list[str] = []
    for table in tables:
        base = "tab:" + re.sub(r"[^a-z0-9]+", "-", _title_words(table).lower()).strip("-")
        labels.append(base if base not in labels else f"{base}-{len(labels) + 1}")
    return head + "\n".join(_latex_table(t, label) for t, label in zip(tables, labels, strict=True))


def _title_words(table: Table) -> str:
    return " ".join((table.dataset, table.model, table.protocol, table.attack))


def _latex_table(table: Table, label: str) -> str:
    lines = [r"\begin{table}[t]", r"\centering"]
    lines += [rf"\caption{{{_latex_prose(_caption(table))}}}", rf"\label{{{label}}}"]
    if table.rows:
        lines += [
            r"\small",
            r"\setlength{\tabcolsep}{4pt}",
            r"\begin{tabular}{l" + "r" * len(COLUMNS) + "}",
            r"\toprule",
            r" & \multicolumn{3}{c}{Clean} & \multicolumn{3}{c}{Robust} \\",
            r"\cmidrule(lr){2-4} \cmidrule(lr){5-7}",
            r"Method & Average & Worst & $\rho$ & Average & Worst & $\rho$ \\",
            r"\midrule",
            *(_latex_row(row, table) for row in table.rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    if table.notes:
        lines += ["", r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [f"{_latex_prose(note)}\\par" for note in table.notes]
        lines += [r"\end{minipage}"]
    return "\n".join([*lines, r"\end{table}", ""])


def _latex_row(row: Row, table: Table) -> str:
    numbers = []
    for k, cell in _numbered(row):
        text = _emphasised(_number(cell, k, table).replace("-", "$-$"), cell, r"\textbf{{{}}}")
        numbers.append(text.replace(f" {PLUS_MINUS} ", r" $\pm$ ") if cell.exists else "--")
    return " & ".join([latex(row.label), *numbers]) + r" \\"


def _latex_prose(text: str) -> str:
    return re.sub(r"\brho\b", r"$\\rho$", latex(text))


def _csv(tables: Sequence[Table]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    numbers = [f"{column}{part}" for column in COLUMNS for part in ("", "_half_width", "_sd")]
    writer.writerow([*_CSV_PLACE, *numbers, *_CSV_REST])
    for table in tables:
        where = (table.dataset, table.model, table.protocol, table.protocol_version, table.attack)
        for row in table.rows:
            seeds = (str(len(row.seeds)), " ".join(map(str, row.seeds)))
            place = (*where, row.method, row.label, *seeds)
            numbers = [_exact(value) for c in row.cells for value in (c.value, c.half_width, c.sd)]
            lists = (" ".join(row.record_ids), "; ".join(row.warnings))
            rest = (row.worst_class_clean, row.worst_class_robust, table.convention, *lists, table.title)
            writer.writerow([*map(csv_text, place), *numbers, *map(csv_text, rest)])
    return buffer.getvalue()


def _exact(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _numbered(row: Row) -> list[tuple[int, Cell]]:
    return list(enumerate(row.cells))


def _number(cell: Cell, column: int, table: Table) -> str:
    """ "82.68 ± 0.23" in percent, rho as "+0.05 ± 0.02", "-" for a number that does not exist."""
    if cell.value is None or math.isnan(cell.value):
        return "-"
    error = cell.half_width if table.error == "t95" else cell.sd
    if COLUMNS[column].endswith("rho"):
        value, spread = _signed(cell.value), error
    else:
        value, spread = f"{100 * cell.value:.2f}", None if error is None else 100 * error
    return value if spread is None else f"{value} {PLUS_MINUS} {spread:.2f}"


def _signed(value: float) -> str:
    text = f"{value:+.2f}"
    return "0.00" if float(text) == 0 else text


def _emphasised(number: str, cell: Cell, pattern: str) -> str:
    """The number with its mean in bold when it is the best; the error stays light."""
    if not cell.best:
        return number
    mean, *error = number.split(" ", 1)
    return " ".join([pattern.format(mean), *error])


FORMATS = {"text": _text, "markdown": _markdown, "latex": _latex, "csv": _csv}
