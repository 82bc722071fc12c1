"""Tables for a paper. They need only the package booktabs, so \\input works in any document."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fairbench.tables.escapes import latex
from fairbench.tables.formats.captions import Marks, Words, legend, words_of
from fairbench.tables.formats.numbers import Shown, shown_cells
from fairbench.tables.provenance import stamp
from fairbench.tables.table import Table

TEXT_WIDTH = 338.0  # points; the article class has 345, and the width of a table is estimated
CAPTION_WIDTH = 76  # characters in a line of the article class in the size small, on average
_DIGIT = {"small": 4.63, "footnotesize": 4.25, "scriptsize": 3.99, "tiny": 3.41}  # points wide
_SMALLER = {"small": "scriptsize", "footnotesize": "tiny", "scriptsize": "tiny", "tiny": "tiny"}  # of errors
_READABLE = ("small", "footnotesize", "scriptsize")
_SEPARATIONS = (4.0, 3.0, 2.0)  # points on each side of a column
_SYMBOLS = {"rho": r"$\rho$", "p": "$p$", "flip p": "Flip $p$"}
_TABULARS = r"tabular[xy*]?|longtable|array|tabu|[lL]ongtblr|tblr|NiceTabular\w*"
_SETTING = re.compile(r"(\[\w\])?(\{\\\w+\})?\{[@{}|lcrX]*\}")
_RULES = re.compile(r"(\\(toprule|midrule|bottomrule|hline|addlinespace|cmidrule(\(\w*\))?\{[\d-]+\})\s*)+")


def document(tables: Sequence[Table], *, full_captions: bool = False) -> str:
    """One table environment per table, with its own label and its stamp as a comment.

    The legend is a comment too, because it stands once in a paper, where its author wants it.
    """
    head = "% Made by fairbench table. Needs \\usepackage{booktabs} in the preamble.\n"
    labels: list[str] = []
    for table in tables:
        sides = [group for group, _ in table.groups] if len(table.groups) == 1 else []
        view = [table.view] if table.view != "main" else []
        words = " ".join([table.dataset, table.model, table.protocol, table.attack, *view, *sides])
        base = "tab:" + re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
        labels.append(base if base not in labels else f"{base}-{len(labels) + 1}")
    parts = [
        _table(table, label, _words(table, full_captions))
        for table, label in zip(tables, labels, strict=True)
    ]
    if not full_captions:
        parts += [
            f"% {line}"
            for sentence in legend(tables, Marks())
            for line in textwrap.wrap(_prose(sentence), 98)
        ]
    return head + "\n".join(parts) + "\n" * (not full_captions)


def printed_lines(text: str) -> list[str]:
    """The lines of all tables in a text, heads too, without rules and column specifications."""
    printed: list[str] = []
    for _, inner in re.findall(rf"(?s)\\begin\s*\{{({_TABULARS})\}}(.*?)(?:\\end\{{\1\}}|\Z)", text):
        first, *lines = inner.splitlines() or [""]
        lines = [*([] if _SETTING.fullmatch(first.strip()) else [first]), *lines]
        printed += [line for line in map(str.strip, lines) if line and not _RULES.fullmatch(line)]
    return printed


def _words(table: Table, full_captions: bool) -> Words:
    return words_of(
        table, Marks(), full=full_captions, before=f"Table 10: {table.title}.", width=CAPTION_WIDTH
    )


def _table(table: Table, label: str, words: Words) -> str:
    lines = [r"\begin{table}[t]", r"\centering\small"]
    short, long = _prose(table.title), _prose(f"{table.title}. {words.caption}")
    lines += [rf"\caption[{{{short}}}]{{{long}}}", rf"\label{{{label}}}"]
    for block in _blocks(table) if table.rows else ():
        lines += [
            r"\medskip",
            rf"\{block.size}",
            rf"\setlength{{\tabcolsep}}{{{block.separation:g}pt}}",
            r"\begin{tabular}{@{}l" + "r" * len(block.table.columns) + "@{}}",
            r"\toprule",
            *_heads(block.table),
            r"\midrule",
            *block.rows(),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    if words.notes:
        lines += [r"\smallskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright"]
        lines += [f"{_prose(note)}\\par" for note in words.notes]
        lines += [r"\end{minipage}"]
    lines.append(r"\end{table}")
    return "\n".join([*lines, *(f"% {line}" for line in stamp(table)), ""])


@dataclass(frozen=True)
class Block:
    """Columns of a table beside each other, in a size and separation that fit the page.

    numbers: those of each row. separation and width are in points.
    """

    table: Table
    numbers: list[list[Shown]]
    size: str
    separation: float
    width: float

    def rows(self) -> list[str]:
        """The lines with numbers; published ones in italics between ours."""
        mixed = any(not row.source for row in self.table.rows)
        lines = []
        for row, numbers in zip(self.table.rows, self.numbers, strict=True):
            label = latex(row.name)
            if label.startswith(("[", "*")):  # or LaTeX takes it for an argument of the line end before
                label = f"{{}}{label}"
            label = rf"\textit{{{label}}}" if row.source and mixed else label
            cells = [_number(number, _SMALLER[self.size]) for number in numbers]
            lines.append(" & ".join([label, *cells]) + r" \\")
        return lines


def _blocks(table: Table) -> list[Block]:
    """The whole table where it is readable on one page, else its groups below each other."""
    whole = _fitting(table)
    if len(table.groups) == 1 or (whole.size in _READABLE and whole.width <= TEXT_WIDTH):
        return [whole]
    blocks, first = [], 0
    for _, count in table.groups:
        part = slice(first, first + count)
        cut = tuple(replace(row, cells=row.cells[part]) for row in table.rows)
        blocks.append(_fitting(replace(table, columns=table.columns[part], rows=cut)))
        first += count
    return blocks


def _fitting(table: Table) -> Block:
    """The largest size and separation with which the table should fit a text column, or the smallest."""
    lines = [shown_cells(row, table) for row in table.rows]
    letters = max(len(row.name) + 0.45 * sum(map(str.isupper, row.name)) for row in table.rows)
    for size, separation in ((size, gap) for size in _DIGIT for gap in _SEPARATIONS):
        digit, small = _DIGIT[size], _DIGIT[_SMALLER[size]]
        width = letters * digit
        for k, column in enumerate(table.columns):
            numbers = [_width(line[k], digit, small) for line in lines]
            width += max([*numbers, len(column.header) * digit]) + 2 * separation
        if width <= TEXT_WIDTH:
            break
    return Block(table, lines, size, separation, width)


def _width(number: Shown, digit: float, small_digit: float) -> float:
    """About how many points a cell takes: bold is wider, a plus-minus sign is one and a half digits."""
    small = len(number.error) + len(number.limits) + len(number.verdict) + 2 * bool(number.error)
    value = len(number.value) * digit * (1.15 if number.best else 1.0)
    return value + small * small_digit + 0.8 * digit * number.near + digit / 3 * bool(small)


def _heads(table: Table) -> list[str]:
    """The headings over several columns with a rule under each, then those of the columns."""
    first, heads, rules = 2, [], []
    for group, count in table.groups:
        heads.append(rf"\multicolumn{{{count}}}{{c}}{{{_prose(group.capitalize())}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + count - 1}}}")
        first += count
    names = " & ".join([table.head.capitalize(), *(_header(column.header) for column in table.columns)])
    return [f" & {' & '.join(heads)} \\\\", " ".join(rules), rf"{names} \\"]


def _header(text: str) -> str:
    return _SYMBOLS.get(text) or _prose(text[:1].upper() + text[1:])


def _number(number: Shown, size: str) -> str:
    """The mean in bold when it is the best, its error in small print."""
    if number.value == "-":
        return "--"
    value = _signed(number.value).replace("<", "$<$")
    text = rf"\textbf{{{value}}}" if number.best else value
    error = rf"$\pm${number.error}" if number.error else _signed(number.limits)
    small = " ".join(part for part in (error, number.verdict) if part)
    text += rf"\,{{\{size} {small}}}" if small else ""
    return text + (r"$^\dagger$" if number.near else "")


def _signed(text: str) -> str:
    return re.sub(r"-(?=\d)", "$-$", text)


def _prose(text: str) -> str:
    return re.sub(r"\brho\b", r"$\\rho$", latex(text))
